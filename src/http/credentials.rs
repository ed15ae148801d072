//! The credentials of both sides, tokens and certificate, and how they are replaced while the service
//! runs.

use std::path::Path;

use tokio::task::spawn_blocking;
use tracing::{error, info};

use super::auth::Tokens;
use super::tls::{self, Tls};
use crate::config::tokens::Token;
use crate::config::{Config, ConfigError, TlsFiles, TokenSource};

/// The tokens and the certificate in use. Clones share them.
#[derive(Clone)]
pub struct Credentials {
    tokens: Tokens,
    source: TokenSource,
    tls: Option<(Tls, TlsFiles)>,
}

impl Credentials {
    /// Reads the files of the configuration. Blocks.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn open(config: &Config) -> Result<Self, ConfigError> {
        let source = config.tokens.clone();
        let tls = config.tls.clone().map(|files| Ok((Tls::new(tls::read(&files)?), files)));
        Ok(Self { tokens: Tokens::new(source.read()?), source, tls: tls.transpose()? })
    }

    /// The tokens that open the guarded routes.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The certificate of the public address.
    pub fn tls(&self) -> Option<Tls> {
        self.tls.as_ref().map(|(tls, _)| tls.clone())
    }

    /// Reads the files again, and logs one line for each of tokens and certificate. What cannot be used
    /// leaves in force what was there before. Open connections stay open.
    pub async fn reload(&self) {
        let credentials = self.clone();
        // Away from this thread: a file may be on a disk that does not respond.
        if let Err(error) = spawn_blocking(move || credentials.read_again()).await {
            error!(%error, "reading tokens and certificate again panicked: they stay as they were");
        }
    }

    fn read_again(&self) {
        if let Some(file) = self.source.file() {
            self.read_tokens_again(file.path());
        }
        if let Some((tls, files)) = &self.tls {
            read_certificate_again(tls, files);
        }
        if self.source.file().is_none() && self.tls.is_none() {
            info!("nothing to reload: neither AUTH_TOKENS_FILE nor TLS_CERT_FILE is set");
        }
    }

    fn read_tokens_again(&self, file: &Path) {
        match self.source.read() {
            Ok(tokens) => {
                let names = names(&tokens);
                self.tokens.replace(tokens);
                info!(file = %file.display(), names, "the tokens were read again");
            }
            Err(error) => error!(%error, "cannot read the tokens again: they stay as they were"),
        }
    }
}

fn read_certificate_again(tls: &Tls, files: &TlsFiles) {
    match tls::read(files) {
        Ok(certificate) => {
            tls.replace(certificate);
            info!(file = %files.certificate.path().display(), "the certificate was read again");
        }
        Err(error) => error!(%error, "cannot read the certificate again: it stays as it was"),
    }
}

/// Each name once. A client may have two tokens while one replaces the other.
fn names(tokens: &[Token]) -> String {
    let mut names: Vec<&str> = tokens.iter().map(|token| &*token.name).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}
