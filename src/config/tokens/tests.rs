use super::*;

fn read(list: &str) -> Result<Vec<Token>, String> {
    let source = TokenSource::new(Some(list), None);
    source.and_then(|source| source.read()).map_err(|error| error.to_string())
}

fn shown(tokens: &[Token]) -> Vec<(String, Vec<&'static str>)> {
    let scopes = |token: &Token| {
        let all = Scope::ALL.into_iter().filter(|scope| token.scopes.include(*scope));
        all.map(Scope::name).collect()
    };
    tokens.iter().map(|token| (token.name.to_string(), scopes(token))).collect()
}

#[test]
fn an_entry_has_a_name_scopes_and_a_token_or_is_a_token_for_everything() {
    let tokens = read("shop:read+write:alpha, ops.eu-1:metrics:beta ,gamma").unwrap();
    let all = vec!["read", "write", "metrics"];
    let expected =
        [("shop", vec!["read", "write"]), ("ops.eu-1", vec!["metrics"]), ("token-3", all)];
    assert_eq!(shown(&tokens), expected.map(|(name, scopes)| (name.to_owned(), scopes)));
    for (token, text) in tokens.iter().zip(["alpha", "beta", "gamma"]) {
        assert!(token.digest == TokenDigest::of(text.as_bytes()), "{text}");
    }
}

#[test]
fn a_mistake_is_named_by_its_place_and_never_quoted() {
    let long = format!("{}:read:hunter2", "n".repeat(65));
    for (entry, problem) in [
        ("hunter2:x", FORM),
        ("hunter2:", FORM),
        ("a:hunter2:b", FORM),
        ("shop:reed:hunter2", FORM),
        ("shop:READ:hunter2", FORM),
        ("shop::hunter2", FORM),
        ("shop:read+:hunter2", FORM),
        ("shop:read+admin:hunter2", FORM),
        (":read:hunter2", NAME),
        ("my shop:read:hunter2", NAME),
        (&long, NAME),
        ("shop:read:", TOKEN),
        ("shop:read:hunter2:write", TOKEN),
        ("shop:read:hunter 2", TOKEN),
        ("hünter2", TOKEN),
        ("", TOKEN),
    ] {
        let line = read(&format!("valid,{entry}")).unwrap_err();
        assert_eq!(line, format!("AUTH_TOKENS, entry 2, {problem}"), "{entry}");
    }
}

#[test]
fn one_token_has_one_meaning() {
    for list in ["a:read:x,b:read:x", "a:read:x,a:write:x", "a:read+write+metrics:x,x"] {
        let line = read(list).unwrap_err();
        assert!(line.starts_with("AUTH_TOKENS, entry 2, has the token of another entry"), "{line}");
    }
    // Harmless, and two tokens of one client are how one replaces the other.
    for (list, count) in [("a:read:x,a:read:x", 1), ("x,x", 1), ("a:read:x,a:read:y", 2)] {
        assert_eq!(read(list).unwrap().len(), count, "{list}");
    }
}

#[test]
fn the_number_of_tokens_is_bounded() {
    let list = |count: usize| {
        let all: Vec<_> = (0..count).map(|n| format!("token{n}")).collect();
        all.join(",")
    };
    assert_eq!(read(&list(256)).unwrap().len(), 256);
    assert_eq!(
        read(&list(257)).unwrap_err(),
        "AUTH_TOKENS, entry 257, is one token too many: there may be 256"
    );
}

#[test]
fn a_digest_equals_itself_only() {
    let one = TokenDigest::of(b"one");
    assert!(bool::from(one.ct_eq(&TokenDigest::of(b"one"))));
    for half in 0..2 {
        for bit in [0, 63, 64, 127] {
            let mut other = one;
            other.0[half] ^= 1 << bit;
            assert!(!bool::from(one.ct_eq(&other)), "{half} {bit}");
        }
    }
}

#[test]
fn nothing_shows_a_token_or_its_digest() {
    let source = TokenSource::new(Some("shop:read:hunter2"), None).unwrap();
    let tokens = source.read().unwrap();
    let TokenDigest([word, _]) = tokens[0].digest;
    let shown = format!("{source:?} {tokens:?}");
    assert!(shown.contains("shop"), "{shown}");
    assert!(!shown.contains("hunter2") && !shown.contains(&word.to_string()), "{shown}");
}
