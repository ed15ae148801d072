//! The image.

use super::{is_variable, read};

/// An instruction: its keyword and its arguments.
type Instruction = (String, String);

/// The instructions of the Dockerfile, each on one line.
fn instructions() -> Vec<Instruction> {
    let text = read("Dockerfile");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    let lines = joined.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (keyword, rest) = line.split_once(' ').expect("an instruction has arguments");
            let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
            (keyword.to_owned(), rest)
        })
        .collect()
}

/// Those of the first and of the last stage.
fn stages() -> [Vec<Instruction>; 2] {
    let all = instructions();
    let starts = all.iter().enumerate().filter(|(_, (keyword, _))| keyword == "FROM");
    let starts: Vec<usize> = starts.map(|(index, _)| index).collect();
    assert_eq!(starts.len(), 2, "two stages");
    let (build, last) = all.split_at(starts[1]);
    [build.to_vec(), last.to_vec()]
}

fn only<'a>(stage: &'a [Instruction], keyword: &str) -> &'a str {
    let mut found = stage.iter().filter(|(found, _)| found == keyword);
    let (_, arguments) = found.next().unwrap_or_else(|| panic!("no {keyword}"));
    assert!(found.next().is_none(), "one {keyword}");
    arguments
}

fn position(stage: &[Instruction], keyword: &str, part: &str) -> usize {
    let fits = |(found, rest): &Instruction| found == keyword && rest.contains(part);
    stage.iter().position(fits).unwrap_or_else(|| panic!("no {keyword} with {part}"))
}

#[test]
fn the_image_runs_as_a_number_that_is_nobodys() {
    let [_, image] = stages();
    let user = only(&image, "USER");
    let (user, group) = user.split_once(':').expect("user and group");
    for id in [user, group] {
        // Systems give out ids below 1000 to services (PostgreSQL's is 999), and from there to people.
        let id: u32 = id.parse().expect("a number, which Kubernetes' runAsNonRoot needs");
        assert!((10_000..=65_533).contains(&id), "{id}");
    }
}

#[test]
fn the_image_holds_what_was_built_and_nothing_else() {
    let [build, image] = stages();
    assert_eq!(only(&image, "FROM"), "scratch");
    assert_eq!(only(&image, "COPY"), "--from=build /image/ /");
    assert!(!image.iter().any(|(keyword, _)| keyword == "RUN"), "there is no shell");
    let install = &build[position(&build, "RUN", "strip --strip-debug")].1;
    assert!(install.contains("/image/usr/local/bin"), "{install}");
    for needed in ["ldd ", "/etc/ssl/certs/ca-certificates.crt", "/image/etc/nsswitch.conf"] {
        position(&build, "RUN", needed);
    }
}

#[test]
fn the_image_checks_itself_and_is_told_to_stop_directly() {
    let [_, image] = stages();
    let check = only(&image, "HEALTHCHECK");
    // In the form without a shell, since there is none.
    assert!(check.ends_with(r#"CMD ["plimsoll", "health"]"#), "{check}");
    for option in ["--interval=", "--timeout=", "--start-period=", "--retries="] {
        assert!(check.contains(option), "{option}");
    }
    // Without a shell in between, which would not pass signals on.
    assert_eq!(only(&image, "ENTRYPOINT"), r#"["plimsoll"]"#);
    let variables = only(&image, "ENV").split(' ').map(|pair| pair.split_once('=').unwrap());
    for (name, value) in variables {
        assert!(name == "PATH" || is_variable(name), "{name}");
        // Who may reach the port is not known to the image.
        assert!(name != "AUTH_TOKENS" && name != "DANGEROUSLY_OPEN_TO_EVERYONE", "{value}");
    }
}

#[test]
fn a_change_of_the_source_compiles_no_dependency_again() {
    let [build, _] = stages();
    let manifests = position(&build, "COPY", "Cargo.toml Cargo.lock ./");
    let dependencies = position(&build, "RUN", "cargo clean --release --locked --package plimsoll");
    let sources = position(&build, "COPY", ". .");
    let commit = position(&build, "ARG", "PLIMSOLL_COMMIT");
    assert!(build[dependencies].1.contains("cargo build --release --locked --bins &&"));
    assert!(manifests < dependencies && dependencies < sources && sources < commit);
    let copies = build.iter().filter(|(keyword, _)| keyword == "COPY");
    assert_eq!(copies.count(), 2, "nothing else comes before the dependencies");
    assert!(build[commit + 1].1.starts_with("cargo build --release --locked --bins"));
    // A folder that is kept from build to build is empty on a fresh builder; and see the Dockerfile for
    // what cargo makes of the times of files.
    assert!(!build.iter().any(|(_, rest)| rest.contains("--mount")));
}

#[test]
fn the_build_sees_no_secret_and_no_data() {
    let text = read(".dockerignore");
    let mut rules = text.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(rules.next(), Some("*"), "everything is left out, but for what follows");
    let allowed: Vec<&str> = rules.collect();
    assert_eq!(allowed, ["!/Cargo.lock", "!/Cargo.toml", "!/build.rs", "!/migrations", "!/src"]);
}
