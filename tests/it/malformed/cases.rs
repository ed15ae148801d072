//! The requests, and what is wanted of each.

/// One connection's bytes.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) sent: Vec<u8>,
    pub(super) wanted: Wanted,
}

/// What the service must respond.
pub(super) enum Wanted {
    /// These, in order, and then the end of the connection.
    Statuses(Vec<u16>),
    /// Any responses but errors of the service. The balance tells whether they are true.
    Anything,
}

const BODY: &str = r#"{"userId":1,"amount":-1}"#;
const HOST: &str = "host: x\r\n";
const JSON: &str = "content-type: application/json\r\n";

pub(super) fn all() -> Vec<Case> {
    let mut all = Vec::new();
    for family in
        [lengths, chunks, heads, targets, versions, hosts, expectations, sequences, damaged]
    {
        all.extend(family());
    }
    all
}

fn case(name: impl Into<String>, sent: impl Into<Vec<u8>>, statuses: &[u16]) -> Case {
    let wanted = Wanted::Statuses(statuses.to_vec());
    Case { name: name.into(), sent: sent.into(), wanted }
}

/// A withdrawal of 1 by user 1.
fn withdrawal(headers: &str, body: &str) -> String {
    format!("PATCH /approach/self/balance HTTP/1.1\r\n{HOST}{JSON}{headers}\r\n{body}")
}

pub(super) fn valid() -> String {
    withdrawal(&format!("content-length: {}\r\n", BODY.len()), BODY)
}

fn get(target: &str, headers: &str) -> String {
    format!("GET {target} HTTP/1.1\r\n{HOST}{headers}\r\n")
}

/// A body in chunks, the first of which has this line, and what comes after the last one.
fn chunked(line: &str, after: &str) -> String {
    withdrawal("transfer-encoding: chunked\r\n", &format!("{line}{BODY}\r\n0\r\n{after}"))
}

/// The length of a body: refused, or read exactly as it says.
fn lengths() -> Vec<Case> {
    let of = |value: &str| {
        let sent = withdrawal(&format!("content-length: {value}\r\n"), BODY);
        case(format!("content-length {value:?}"), sent, &[400])
    };
    let mut cases: Vec<_> = [
        "-1",
        "+24",
        "0x18",
        "1e1",
        "24.0",
        "24,24",
        "24 24",
        "24;",
        "\"24\"",
        "",
        " ",
        "x",
        "99999999999999999999",
        "-0",
        "24\u{e9}",
    ]
    .map(of)
    .into();
    let both = |first: &str, second: &str, body: &str| {
        withdrawal(&format!("{first}\r\n{second}\r\n"), body)
    };
    let (length, encoding) = ("content-length: 24", "transfer-encoding: chunked");
    let smuggled = format!("0\r\n\r\n{}", valid());
    let in_chunks = format!("18\r\n{BODY}\r\n0\r\n\r\n{}", valid());
    for (first, second) in [(length, encoding), (encoding, length)] {
        let name = format!("{first}, {second}");
        // The encoding decides, and what follows is not read as a request.
        cases.push(case(&*name, both(first, second, &smuggled), &[400]));
        cases.push(case(name, both(first, second, &in_chunks), &[200]));
    }
    cases.extend([
        case("two lengths that differ", both(length, "content-length: 5", BODY), &[400]),
        case("two lengths that differ", both("content-length: 5", length, BODY), &[400]),
        // hyper takes it for a head that is too large.
        case(
            "the largest length",
            withdrawal("content-length: 18446744073709551615\r\n", BODY),
            &[431],
        ),
        case("the same length twice", both(length, length, BODY), &[200]),
        case("leading zeros", withdrawal("content-length: 0024\r\n", BODY), &[200]),
        case("no length", withdrawal("", ""), &[400]),
        case("no length, but a body", withdrawal("", BODY), &[400, 400]),
        case("length 0", withdrawal("content-length: 0\r\n", ""), &[400]),
        case("less than the length", withdrawal("content-length: 25\r\n", BODY), &[400]),
        case(
            "more than the length",
            withdrawal("content-length: 24\r\n", &format!("{BODY}{{")),
            &[200, 400],
        ),
        case(
            "a body of 4,097 bytes",
            withdrawal("content-length: 4097\r\n", &" ".repeat(4_097)),
            &[413],
        ),
        case(
            "a body that never comes",
            withdrawal("content-length: 999999999999\r\n", BODY),
            &[400],
        ),
        case(
            "a body of GET",
            get("/healthz", "content-length: 5\r\n") + "hello" + &get("/healthz", ""),
            &[200, 200],
        ),
    ]);
    cases
}

fn chunks() -> Vec<Case> {
    let end = "\r\n";
    let mut cases: Vec<_> =
        ["zz", "-18", "+18", "0x18", "FFFFFFFFFFFFFFFFF", "10000000000000000", "", " 18", "18 18"]
            .map(|size| {
                case(format!("chunk size {size:?}"), chunked(&format!("{size}\r\n"), end), &[400])
            })
            .into();
    let long = "x".repeat(20_000);
    cases.extend([
        case("a chunk", chunked("18\r\n", end), &[200]),
        case("a chunk size with zeros", chunked("0018\r\n", end), &[200]),
        case("a chunk extension", chunked("18;a=b;c\r\n", end), &[200]),
        case("a long chunk extension", chunked(&format!("18;{long}\r\n"), end), &[400]),
        case("a line of a chunk without CR", chunked("18\n", end), &[400]),
        case("a chunk longer than its size", chunked("17\r\n", end), &[400]),
        case("a chunk shorter than its size", chunked("19\r\n", end), &[400]),
        case("trailers", chunked("18\r\n", "x-sum: 1\r\n\r\n"), &[200]),
        case(
            "a trailer that would be a length",
            chunked("18\r\n", "content-length: 1\r\n\r\n"),
            &[200],
        ),
        case("a long trailer", chunked("18\r\n", &format!("x: {long}\r\n\r\n")), &[400]),
        case("no end after the last chunk", chunked("18\r\n", ""), &[400]),
        case(
            "a body of 4,097 bytes in chunks",
            withdrawal(
                "transfer-encoding: chunked\r\n",
                &format!("1001\r\n{}\r\n0\r\n\r\n", " ".repeat(4_097)),
            ),
            &[413],
        ),
    ]);
    for encoding in ["gzip", "chunked, gzip", "identity", "", "chunkedx", "chunked;q=1"] {
        let headers = format!("transfer-encoding: {encoding}\r\n");
        let sent = withdrawal(&headers, &format!("18\r\n{BODY}\r\n0\r\n\r\n"));
        cases.push(case(format!("transfer-encoding {encoding:?}"), sent, &[400]));
    }
    cases
}

fn heads() -> Vec<Case> {
    let many = |count: usize| get("/healthz", &"x: y\r\n".repeat(count));
    let long = |length: usize| get("/healthz", &format!("x: {}\r\n", "y".repeat(length)));
    let mut cases: Vec<_> = [100, 1_000, 5_000, 100_000]
        .map(|count| case(format!("{count} more headers"), many(count), &[431]))
        .into();
    cases.extend(
        [16_384, 100_000, 1_000_000]
            .map(|length| case(format!("a header of {length} bytes"), long(length), &[431])),
    );
    cases.extend([
        case("99 more headers", many(99), &[200]),
        case(
            "a name of 20,000 bytes",
            get("/healthz", &format!("{}: y\r\n", "x".repeat(20_000))),
            &[431],
        ),
        case("an obsolete fold", get("/healthz", "x: a\r\n b\r\n"), &[400]),
        case("a space before the colon", get("/healthz", "x : a\r\n"), &[400]),
        case("no name", get("/healthz", ": a\r\n"), &[400]),
        case("no colon", get("/healthz", "x\r\n"), &[400]),
        case("NUL in a value", get("/healthz", "x: a\0b\r\n"), &[400]),
        case("NUL in a name", get("/healthz", "x\0: a\r\n"), &[400]),
        case("CR in a value", get("/healthz", "x: a\rb\r\n"), &[400]),
        case(
            "no UTF-8",
            [b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: ".as_slice(), b"\xff\xfe\r\n\r\n"].concat(),
            &[200],
        ),
        case(
            "an upgrade to a WebSocket",
            get("/healthz", "connection: upgrade\r\nupgrade: websocket\r\n"),
            &[200],
        ),
        case(
            "an upgrade to HTTP/2",
            get(
                "/healthz",
                "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: x\r\n",
            ),
            &[200],
        ),
        case("lines without CR", "GET /healthz HTTP/1.1\nhost: x\n\n", &[200]),
        case("empty lines before the request", format!("\r\n\r\n{}", get("/healthz", "")), &[200]),
        case("nothing but empty lines", "\r\n".repeat(100), &[]),
        case("no content type", valid().replace(JSON, ""), &[415]),
        case("two content types", valid().replace(JSON, &JSON.repeat(2)), &[415]),
        case(
            "two keys",
            valid().replace(JSON, &format!("{JSON}idempotency-key: a\r\nidempotency-key: b\r\n")),
            &[400],
        ),
    ]);
    cases
}

fn targets() -> Vec<Case> {
    let of = |target: &str, status: u16| {
        let shown: String = target.chars().take(40).collect();
        case(format!("the target {shown}"), get(target, ""), &[status])
    };
    let long = |length: usize| format!("/{}", "x".repeat(length));
    let mut cases = vec![
        of(&long(16_000), 404),
        of(&long(17_000), 431),
        of(&long(100_000), 431),
        of(&long(1_000_000), 431),
        of(&format!("/healthz?{}", "x".repeat(15_000)), 200),
        of("http://elsewhere/healthz", 200),
        of("HTTP://x:80/healthz", 200),
        of("https://x/nowhere", 404),
        of("/healthz#fragment", 200),
        of("/../healthz", 404),
        of("//healthz", 404),
        of("/users/1/../../healthz", 404),
        of("/%2e%2e/healthz", 404),
        of("/healthz%00", 404),
        of("/%68ealthz", 404),
        of("/users/1%2F..%2F2", 400),
        of("/users/%ff", 400),
        of("/users/1%00", 400),
        of("/users/%31", 200),
        of("/users/+1", 400),
        of("/users/01", 200),
        of("*", 404),
        of("", 400),
        of("healthz", 404),
        of("/a b", 400),
        of("/a\0b", 400),
        of("/\u{7f}", 400),
        of("http://", 400),
    ];
    let line = |line: &str, status: u16| {
        case(format!("the line {line:?}"), format!("{line}\r\n{HOST}\r\n"), &[status])
    };
    cases.extend([
        line("CONNECT x:80 HTTP/1.1", 404),
        line("OPTIONS * HTTP/1.1", 404),
        line("OPTIONS /healthz HTTP/1.1", 405),
        line("TRACE /healthz HTTP/1.1", 405),
        line("get /healthz HTTP/1.1", 405),
        line("GET\t/healthz\tHTTP/1.1", 400),
        line("GET  /healthz HTTP/1.1", 400),
        line(" GET /healthz HTTP/1.1", 400),
        line("G\0T /healthz HTTP/1.1", 400),
        line(" /healthz HTTP/1.1", 400),
        line("GET", 400),
    ]);
    let absolute = valid().replace("PATCH /", "PATCH http://x/");
    cases.push(case("a change with an absolute target", absolute, &[200]));
    let encoded = format!(
        "PATCH /users/%31/balance HTTP/1.1\r\n{HOST}{JSON}content-length: 13\r\n\r\n{{\"amount\":-1}}"
    );
    cases.push(case("a change of an encoded user", encoded, &[200]));
    cases
}

fn versions() -> Vec<Case> {
    let of = |version: &str| {
        case(
            format!("the version {version:?}"),
            format!("GET /healthz {version}\r\n{HOST}\r\n"),
            &[400],
        )
    };
    let mut cases: Vec<_> = [
        "HTTP/1.2",
        "HTTP/2.0",
        "HTTP/0.9",
        "HTTP/11",
        "http/1.1",
        "HTP/1.1",
        "HTTP/1.1x",
        "HTTP/1.",
        "",
        "HTTP/1.1 HTTP/1.1",
    ]
    .map(of)
    .into();
    let old = |headers: &str| valid().replace("HTTP/1.1", "HTTP/1.0").replace(HOST, headers);
    let twice = |request: String| request.repeat(2);
    cases.extend([
        case("HTTP/0.9", "GET /healthz\r\n", &[400]),
        case("HTTP/1.0", old(""), &[200]),
        case("HTTP/1.0 is closed after a response", twice(old("")), &[200]),
        case("HTTP/1.0 that is kept alive", twice(old("connection: keep-alive\r\n")), &[200, 200]),
        case(
            "HTTP/1.0 with chunks",
            chunked("18\r\n", "\r\n").replace("HTTP/1.1", "HTTP/1.0"),
            &[400],
        ),
        case(
            "HTTP/1.1 that is closed",
            twice(valid().replace(HOST, "host: x\r\nconnection: close\r\n")),
            &[200],
        ),
        // hyper recognises it and closes the connection: such a client understands no response.
        case("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0", &[]),
        case(
            "a handshake of TLS",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
            &[400],
        ),
        case("a greeting of SMTP", "EHLO x\r\n", &[400]),
        case("zeros", [0_u8; 1_000].as_slice(), &[400]),
    ]);
    cases
}

/// HTTP/1.1 needs exactly one, HTTP/1.0 none.
fn hosts() -> Vec<Case> {
    let with = |hosts: &str| valid().replace(HOST, hosts);
    vec![
        case("no host", with(""), &[400]),
        case("two hosts", with("host: x\r\nhost: y\r\n"), &[400]),
        case("the same host twice", with("host: x\r\nhost: x\r\n"), &[400]),
        case("an empty host", with("host:\r\n"), &[200]),
        case(
            "HTTP/1.0 with two hosts",
            with("host: x\r\nhost: y\r\n").replace("HTTP/1.1", "HTTP/1.0"),
            &[400],
        ),
        case("a refused host ends the connection", with("") + &valid(), &[400]),
    ]
}

fn expectations() -> Vec<Case> {
    let of = |value: &str| withdrawal(&format!("expect: {value}\r\ncontent-length: 24\r\n"), BODY);
    vec![
        case("expect: 100-continue", of("100-continue"), &[100, 200]),
        case("expect: 100-CONTINUE", of("100-CONTINUE"), &[100, 200]),
        case("an unknown expectation", of("a miracle"), &[200]),
        case(
            "no body is waited for that is too long",
            withdrawal("expect: 100-continue\r\ncontent-length: 5000\r\n", ""),
            &[413],
        ),
        case(
            "no body is waited for of another type",
            of("100-continue").replace(JSON, "").replace(BODY, ""),
            &[415],
        ),
    ]
}

/// Several requests on one connection.
fn sequences() -> Vec<Case> {
    let (whole, half) = (valid(), valid()[..40].to_owned());
    vec![
        case("two at once", whole.repeat(2), &[200, 200]),
        case("a hundred at once", whole.repeat(100), &[200; 100]),
        case("one, and no request", whole.clone() + "nonsense\r\n\r\n", &[200, 400]),
        case("one, and half of another", whole.clone() + &half, &[200]),
        case("no request, and one", "nonsense\r\n\r\n".to_owned() + &whole, &[400]),
        case("a refused one, and one", valid().replace("-1}", "xx}") + &whole, &[400, 200]),
        case("nothing", "", &[]),
    ]
}

/// A valid change that is cut off, or damaged, at each of its bytes. The balance must tell the same as
/// the response.
fn damaged() -> Vec<Case> {
    let whole = valid().into_bytes();
    let anything = |name: String, sent: Vec<u8>| Case { name, sent, wanted: Wanted::Anything };
    let mut cases = Vec::new();
    for at in 0..whole.len() {
        cases.push(anything(format!("cut off at byte {at}"), whole[..at].to_vec()));
        for byte in [0, b'\n', b'9'] {
            let mut sent = whole.clone();
            sent[at] = byte;
            cases.push(anything(format!("{byte:#x} as byte {at}"), sent));
        }
    }
    cases
}
