//! The commit that is built, for `plimsoll --version` and the metrics, as `PLIMSOLL_COMMIT`.
//!
//! Where there is no repository, as in the build of an image, the variable of that name says it. In an
//! unpacked archive without either it is "unknown".

use std::env;
use std::path::Path;
use std::process::Command;

const NAME: &str = "PLIMSOLL_COMMIT";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={NAME}");
    #[expect(clippy::disallowed_methods, reason = "a build has no other configuration")]
    let given = env::var(NAME).ok().filter(|commit| is_commit(commit));
    let commit = given.or_else(of_repository).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env={NAME}={commit}");
}

/// The commit of this folder's own repository: `.git` is a folder, or a file in a worktree. An archive that
/// was unpacked inside another repository has neither.
fn of_repository() -> Option<String> {
    if !Path::new(".git").exists() {
        return None;
    }
    // The log of HEAD gets a line with each commit, merge or checkout. Repositories without it are rare;
    // there, HEAD names a branch, whose file changes. Cargo takes a missing file for a change, so only
    // those that exist are named.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for file in ["HEAD", "logs/HEAD"].into_iter().chain(branch.as_deref()) {
        if let Some(path) = git(&["rev-parse", "--git-path", file])
            && Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"]).filter(|commit| is_commit(commit))
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn is_commit(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
