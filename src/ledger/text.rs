//! Texts that the client chooses.

/// An idempotency key: 1 to 255 visible ASCII characters that the client chose for one request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(Box<str>);

impl Key {
    /// The longest key, in characters.
    pub const LENGTH_MAX: usize = 255;

    /// `None` where it is empty, too long, or has other characters.
    pub fn new(key: &str) -> Option<Self> {
        let fits = (1..=Self::LENGTH_MAX).contains(&key.len());
        (fits && key.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(key.into()))
    }

    /// The key itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The client's own text for an operation: 1 to 255 characters without control characters. It is
/// shown in the history and never interpreted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference(Box<str>);

impl Reference {
    /// The longest reference, in characters (Unicode code points).
    pub const LENGTH_MAX: usize = 255;

    /// `None` where it is empty, too long, or has a control character.
    pub fn new(text: &str) -> Option<Self> {
        // Cheap for a text that is far too long.
        let length = text.chars().take(Self::LENGTH_MAX + 1).count();
        let fits = (1..=Self::LENGTH_MAX).contains(&length);
        (fits && !text.chars().any(char::is_control)).then(|| Self(text.into()))
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_visible_ascii() {
        for key in ["", " ", "a b", "tab\t", "é", &"x".repeat(256)] {
            assert!(Key::new(key).is_none(), "{key:?}");
        }
        assert!(Key::new(&"~".repeat(255)).is_some());
    }

    #[test]
    fn a_reference_is_text_without_control_characters() {
        for text in ["", "a\nb", "\0", "\u{7f}", "\u{85}", &"é".repeat(256)] {
            assert!(Reference::new(text).is_none(), "{text:?}");
        }
        for text in [" ", "Rechnung 17 / März", "👍🏽", "'; DROP TABLE users; --", &"é".repeat(255)]
        {
            assert_eq!(Reference::new(text).unwrap().as_str(), text);
        }
    }
}
