//! What stands after the question mark.

/// The longest page, and the one where nothing is said.
const PAGE: (i64, i64) = (500, 50);

/// The parameters of a request.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        let decoded = |text: &str| {
            percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
        };
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(name, value)| (decoded(name), decoded(value))).collect())
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }

    pub(super) fn limit(&self) -> i64 {
        self.number("limit").unwrap_or(PAGE.1).clamp(1, PAGE.0)
    }

    pub(super) fn before(&self) -> i64 {
        self.number("before").unwrap_or(i64::MAX)
    }
}
