use std::fmt;

use zeroize::Zeroizing;

/// What an endpoint knows the user by.
///
/// It is in no `Debug` output and in no error. Its memory is overwritten when it is dropped, though
/// not the buffers of the connections that carried it.
#[derive(Clone)]
pub struct ApiKey(Zeroizing<String>);

/// Why a text is no key. The text itself is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// There is nothing in it.
    #[error("the key is empty")]
    Empty,
    /// It could not be sent in a header.
    #[error("the key has spaces, line breaks or characters outside ASCII, which no key has")]
    Characters,
}

impl ApiKey {
    /// Takes a key as it is pasted, white space around it left out.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`] unless it is of visible ASCII characters.
    pub fn new(text: &str) -> Result<Self, InvalidKey> {
        let text = text.trim();
        if text.is_empty() {
            return Err(InvalidKey::Empty);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidKey::Characters);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The key itself, for the store of secrets and the request's header only.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `text` without the key in it: some servers repeat the key that they refuse.
    pub(super) fn redact(&self, text: &str) -> String {
        text.replace(self.expose(), "[key]")
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_as_pasted_and_never_shown() {
        let key = ApiKey::new(" sk-123_abc\n").unwrap();
        assert_eq!(key.expose(), "sk-123_abc");
        assert_eq!(format!("{key:?} {:?}", Some(&key)), "ApiKey(hidden) Some(ApiKey(hidden))");
        assert_eq!(key.redact("no such key: sk-123_abc."), "no such key: [key].");
    }

    #[test]
    fn what_no_header_could_carry_is_refused() {
        for (text, expected) in [
            ("", InvalidKey::Empty),
            (" \n", InvalidKey::Empty),
            ("sk 1", InvalidKey::Characters),
            ("sk\r\nHost: x", InvalidKey::Characters),
            ("sk-ä", InvalidKey::Characters),
        ] {
            assert_eq!(ApiKey::new(text).err(), Some(expected), "{text:?}");
        }
    }
}
