//! Bearer tokens: the form in which they are configured, and what each of them opens.
//!
//! The text of a token is dropped as soon as it is read. Only its digest stays, so that no log and no
//! `Debug` output can show a token.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::{array, fmt};

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tracing::warn;

use super::{ConfigError, NamedFile};

/// The variable with tokens in it.
const LIST: &str = "AUTH_TOKENS";

/// The most tokens. Each request is compared with all of them.
const TOKENS_MAX: usize = 256;

/// The longest name: it is part of log lines.
const NAME_BYTES_MAX: usize = 64;

/// A token with fewer characters gets a warning, since it can be guessed.
const TOKEN_BYTES_MIN: usize = 16;

const FORM: &str = "must be name:scopes:token, with scopes of read, write and metrics joined by +, \
                    or a token without a colon";
const NAME: &str = "must have a name of 1 to 64 letters, digits, dots, hyphens or underscores";
const TOKEN: &str = "must have a token of visible ASCII characters without a colon or a comma";

/// What a token opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Users, histories and holds are shown.
    Read,
    /// Balances are changed. Does not include [`Scope::Read`].
    Write,
    /// `GET /metrics`.
    Metrics,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Metrics];

    /// Its name in the configuration and in the API's document.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Metrics => "metrics",
        }
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    const ALL: Self = Self(0b111);

    /// Whether `scope` is one of them.
    pub fn include(self, scope: Scope) -> bool {
        self.0 & Self::of(scope).0 != 0
    }

    fn of(scope: Scope) -> Self {
        Self(1 << scope as u8)
    }

    fn parse(text: &str) -> Option<Self> {
        text.split('+').try_fold(Self(0), |all, name| {
            let scope = Scope::ALL.into_iter().find(|scope| scope.name() == name)?;
            Some(Self(all.0 | Self::of(scope).0))
        })
    }
}

/// The SHA-256 of a token.
///
/// Held as two words: comparing these in constant time takes 4 ns, and byte by byte 85 ns, for each
/// token and request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenDigest([u128; 2]);

impl TokenDigest {
    /// Computes the digest of a token.
    pub fn of(token: &[u8]) -> Self {
        let bytes: [u8; 32] = Sha256::digest(token).into();
        let word =
            |half: usize| u128::from_ne_bytes(array::from_fn(|index| bytes[16 * half + index]));
        Self([word(0), word(1)])
    }
}

impl ConstantTimeEq for TokenDigest {
    fn ct_eq(&self, other: &Self) -> Choice {
        let ([a, b], [c, d]) = (self.0, other.0);
        ((a ^ c) | (b ^ d)).ct_eq(&0)
    }
}

/// A token. Its text is not kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Who uses it.
    pub name: Arc<str>,
    /// What it opens.
    pub scopes: Scopes,
    /// Recognizes it.
    pub digest: TokenDigest,
}

/// Without the digest: a short token could be guessed from it.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, scopes, .. } = self;
        f.debug_struct("Token").field("name", name).field("scopes", scopes).finish_non_exhaustive()
    }
}

/// Where the tokens come from: `AUTH_TOKENS`, `AUTH_TOKENS_FILE`, both or none.
#[derive(Clone, Debug, Default)]
pub struct TokenSource {
    listed: Vec<Entry>,
    file: Option<NamedFile>,
}

impl TokenSource {
    pub(super) fn new(list: Option<&str>, file: Option<NamedFile>) -> Result<Self, ConfigError> {
        let entries = list.into_iter().flat_map(|list| list.split(','));
        let listed = entries.enumerate().map(|(index, text)| {
            let number = index + 1;
            Entry::parse(text, format!("token-{number}"), format!("{LIST}, entry {number},"))
        });
        Ok(Self { listed: listed.collect::<Result<_, _>>()?, file })
    }

    /// Whether requests need a token.
    pub fn is_set(&self) -> bool {
        !self.listed.is_empty() || self.file.is_some()
    }

    /// The file, which may change while the service runs.
    pub fn file(&self) -> Option<&NamedFile> {
        self.file.as_ref()
    }

    /// All tokens. Reads the file anew, and warns about what is allowed but risky. Blocks.
    ///
    /// # Errors
    /// The file is unreadable, has an invalid line or no token, or two tokens contradict each other.
    /// The error never quotes an entry.
    pub fn read(&self) -> Result<Vec<Token>, ConfigError> {
        let mut entries = self.listed.clone();
        if let Some(file) = &self.file {
            entries.extend(entries_of(file)?);
        }
        warn_about(&entries);
        distinct(entries)
    }
}

/// The entries of a file. A file without any is an error: it must never mean "no check".
fn entries_of(file: &NamedFile) -> Result<Vec<Entry>, ConfigError> {
    let content = file.read_secret()?;
    let text = str::from_utf8(&content).map_err(|_| file.unusable("must be a text in UTF-8"))?;
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let used = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let entries: Vec<_> = used
        .map(|(number, line)| {
            Entry::parse(
                line,
                format!("line-{number}"),
                format!("AUTH_TOKENS_FILE, line {number},"),
            )
        })
        .collect::<Result<_, _>>()?;
    if entries.is_empty() {
        return Err(file.unusable("must have at least one token"));
    }
    Ok(entries)
}

/// An entry that is valid by itself.
#[derive(Clone, Debug)]
struct Entry {
    token: Token,
    has_name: bool,
    is_short: bool,
    /// The begin of a message about it.
    place: String,
}

impl Entry {
    fn parse(text: &str, number_name: String, place: String) -> Result<Self, ConfigError> {
        match parts(text.trim()) {
            Ok((name, scopes, token)) => Ok(Self {
                has_name: name.is_some(),
                is_short: token.len() < TOKEN_BYTES_MIN,
                token: Token {
                    name: name.map_or_else(|| number_name.into(), Arc::from),
                    scopes,
                    digest: TokenDigest::of(token.as_bytes()),
                },
                place,
            }),
            Err(problem) => Err(ConfigError::Token { place, problem }),
        }
    }

    fn contradicts(&self, other: &Self) -> bool {
        let is_same_name = match (self.has_name, other.has_name) {
            (true, true) => self.token.name == other.token.name,
            (one, another) => one == another,
        };
        !is_same_name || self.token.scopes != other.token.scopes
    }
}

/// Name, scopes and token. The error never quotes them.
fn parts(text: &str) -> Result<(Option<&str>, Scopes, &str), &'static str> {
    let (name, scopes, token) = match text.split_once(':') {
        None => (None, Scopes::ALL, text),
        Some((name, rest)) => {
            let (scopes, token) = rest.split_once(':').ok_or(FORM)?;
            (Some(name.trim()), Scopes::parse(scopes.trim()).ok_or(FORM)?, token.trim())
        }
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_some_and(|n| n.is_empty() || n.len() > NAME_BYTES_MAX || !n.bytes().all(fits)) {
        return Err(NAME);
    }
    let fits = |byte: u8| byte.is_ascii_graphic() && !b":,".contains(&byte);
    if token.is_empty() || !token.bytes().all(fits) {
        return Err(TOKEN);
    }
    Ok((name, scopes, token))
}

fn warn_about(entries: &[Entry]) {
    let are_named = entries.iter().any(|entry| entry.has_name);
    for Entry { token, has_name, is_short, place } in entries {
        let name = &token.name;
        if *is_short {
            warn!(%name, "{place} has a token of fewer than {TOKEN_BYTES_MIN} characters: others may guess it");
        }
        if are_named && !has_name {
            warn!(%name, "{place} has no name and no scopes: it opens all routes");
        }
    }
}

/// The tokens without repetitions.
fn distinct(entries: Vec<Entry>) -> Result<Vec<Token>, ConfigError> {
    let mut kept: Vec<Entry> = Vec::new();
    for entry in entries {
        match kept.iter().find(|other| other.token.digest == entry.token.digest) {
            Some(other) if entry.contradicts(other) => {
                let problem = "has the token of another entry, but another name or other scopes";
                return Err(ConfigError::Token { place: entry.place, problem });
            }
            Some(_) => {}
            None if kept.len() == TOKENS_MAX => {
                let problem = "is one token too many: there may be 256";
                return Err(ConfigError::Token { place: entry.place, problem });
            }
            None => kept.push(entry),
        }
    }
    Ok(kept.into_iter().map(|entry| entry.token).collect())
}
