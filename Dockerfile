# The service for a database that DATABASE_URL names. It holds no PostgreSQL: in a container the
# database belongs into one of its own.

FROM rust:1-slim-bookworm AS build
# The allocator is built from its C sources. The image has a C compiler, but no make.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The downloads are kept from build to build, the results of compiling are not: COPY keeps the times
# of the files, so cargo would take a source that is older than the last build for one that it has
# built, and put the old binaries into the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    cargo build --release --locked --bins \
    && install -D --target-directory=/out target/release/plimsoll target/release/concurrency-tester

FROM debian:bookworm-slim
# The authorities that a database's certificate is checked against.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --no-create-home --shell /usr/sbin/nologin plimsoll
COPY --from=build /out/ /usr/local/bin/
USER plimsoll
# Inside, all addresses: outside, only what is published can be reached. Who may reach that is not
# known here, so the service does not start without AUTH_TOKENS.
ENV HOST=0.0.0.0 PORT=3000 LOG_FORMAT=json
EXPOSE 3000
ENTRYPOINT ["plimsoll"]
