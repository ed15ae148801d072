# The service for a database that DATABASE_URL names. It holds no PostgreSQL: in a container the
# database belongs into one of its own.
#
#   docker build --build-arg PLIMSOLL_COMMIT=$(git rev-parse --short=12 HEAD) --tag plimsoll .

FROM rust:1-slim-bookworm AS build
# The allocator is built from its C sources. The image has a C compiler, but no make.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# The dependencies alone, in a layer of their own, so that a change of the source compiles none of them
# again. What stood in for the source is removed: COPY keeps the times of the files, and cargo takes a
# source that is older than its last build for one that it has built.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src/bin/concurrency-tester tests/it \
    && touch src/lib.rs tests/it/main.rs \
    && echo 'fn main() {}' | tee src/main.rs >src/bin/concurrency-tester/main.rs \
    && cargo build --release --locked --bins \
    && cargo clean --release --locked --package plimsoll
COPY . .
# There is no repository here to ask for the commit.
ARG PLIMSOLL_COMMIT
# The symbols stay, for backtraces with names; without the tables of lines, which are three quarters of the
# file. A panic names its line without them.
RUN cargo build --release --locked --bins \
    && install -D --target-directory=/image/usr/local/bin \
        target/release/plimsoll target/release/concurrency-tester \
    && strip --strip-debug /image/usr/local/bin/*
# Beside the programs: the libraries that they load, the authorities that a database's certificate is
# checked against, and the rule that names of /etc/hosts count, which a runtime writes for the container.
RUN ldd /image/usr/local/bin/* | grep --only-matching '/lib[^ ]*' | sort --unique \
        | xargs cp --parents --dereference --target-directory=/image \
    && install -D --mode=0644 --target-directory=/image/etc/ssl/certs \
        /etc/ssl/certs/ca-certificates.crt \
    && echo 'hosts: files dns' >/image/etc/nsswitch.conf

# No shell, no package, nothing that is written to.
FROM scratch
COPY --from=build /image/ /
# A number, so that Kubernetes' runAsNonRoot can tell that it is not root; none that a system gives out.
USER 65532:65532
# Inside, all addresses: outside, only what is published can be reached. Who may reach that is not
# known here, so the service does not start without AUTH_TOKENS.
ENV PATH=/usr/local/bin HOST=0.0.0.0 PORT=3000 LOG_FORMAT=json
EXPOSE 3000
# A start may wait for its database for CONNECT_TIMEOUT_SECS.
HEALTHCHECK --interval=5s --timeout=6s --start-period=60s --retries=3 CMD ["plimsoll", "health"]
ENTRYPOINT ["plimsoll"]
