use std::fmt;
use std::net::IpAddr;

use ureq::http::Uri;

/// Where chat completions are asked for.
const PATH: &str = "/chat/completions";

/// The address of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    url: String,
    is_encrypted: bool,
    is_loopback: bool,
}

/// Why a text is no address. The text itself is not told, as it may hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidAddress {
    /// Another scheme, or none.
    #[error("an address starts with http:// or https://")]
    Scheme,
    /// It cannot be read as an address.
    #[error("the address is not well-formed: it should look like https://example.com/v1")]
    Malformed,
    /// A user name or a password before the host.
    #[error("the address holds a user name or password: put the key into its own field")]
    Credentials,
    /// Something after the path.
    #[error("the address has a part after \"?\" or \"#\", which endpoints do not need")]
    Query,
}

impl Address {
    /// Reads an address as users type it: with or without a slash at its end, with or without
    /// `/v1`, with or without `/chat/completions`.
    ///
    /// `/v1` is added unless a part of the path is a version already (`/v1`, `/v1beta/openai`) or
    /// the path is whole.
    ///
    /// # Errors
    ///
    /// [`InvalidAddress`], a sentence for the user.
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").ok_or(InvalidAddress::Scheme)?;
        let is_encrypted = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(InvalidAddress::Scheme),
        };
        if rest.contains(['?', '#']) {
            return Err(InvalidAddress::Query);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err(InvalidAddress::Credentials);
        }
        let scheme = if is_encrypted { "https" } else { "http" };
        let url = format!("{scheme}://{authority}{}", whole_path(path));
        let uri: Uri = url.parse().ok().ok_or(InvalidAddress::Malformed)?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(InvalidAddress::Malformed)?;
        // "example.com:port" has a host and no number behind it.
        if host != authority && uri.port_u16().is_none() {
            return Err(InvalidAddress::Malformed);
        }
        let is_loopback = is_loopback(host);
        Ok(Self { url, is_encrypted, is_loopback })
    }

    /// The whole of it, with the path of chat completions.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether what is sent can be read on the way.
    pub fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// Whether it is this machine, so that nothing leaves it.
    pub fn is_loopback(&self) -> bool {
        self.is_loopback
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// The path of chat completions below a path as it is typed, without its first slash.
fn whole_path(path: &str) -> String {
    let path = path.trim_end_matches('/');
    let typed = if path.is_empty() { String::new() } else { format!("/{path}") };
    if typed.ends_with(PATH) {
        return typed;
    }
    let is_version = |part: &str| {
        part.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let version = if path.split('/').any(is_version) { "" } else { "/v1" };
    format!("{typed}{version}{PATH}")
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let is_named = host == "localhost" || host.ends_with(".localhost");
    is_named || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_users_type_them() {
        let host = "https://api.example.com";
        for (typed, expected) in [
            (host.to_owned(), format!("{host}/v1/chat/completions")),
            (format!(" {host}/ "), format!("{host}/v1/chat/completions")),
            (format!("{host}/v1"), format!("{host}/v1/chat/completions")),
            (format!("{host}/v1//"), format!("{host}/v1/chat/completions")),
            (format!("{host}/v1/chat/completions"), format!("{host}/v1/chat/completions")),
            (format!("{host}/inference/chat/completions/"), format!("{host}/inference{PATH}")),
            (format!("{host}/api"), format!("{host}/api/v1/chat/completions")),
            (format!("{host}/api/paas/v4/"), format!("{host}/api/paas/v4/chat/completions")),
            (format!("{host}/v1beta/openai"), format!("{host}/v1beta/openai/chat/completions")),
            (format!("{host}/vllm"), format!("{host}/vllm/v1/chat/completions")),
            ("HTTP://[::1]:8080".to_owned(), "http://[::1]:8080/v1/chat/completions".to_owned()),
        ] {
            let address = Address::parse(&typed).unwrap();
            assert_eq!(address.url(), expected, "{typed:?}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_a_sentence() {
        for (typed, expected) in [
            ("", InvalidAddress::Scheme),
            ("localhost:8080", InvalidAddress::Scheme),
            ("ftp://example.com", InvalidAddress::Scheme),
            ("file:///etc/passwd", InvalidAddress::Scheme),
            ("https://", InvalidAddress::Malformed),
            ("https:///v1", InvalidAddress::Malformed),
            ("https://:443/v1", InvalidAddress::Malformed),
            ("https://exa mple.com", InvalidAddress::Malformed),
            ("https://example.com:port", InvalidAddress::Malformed),
            ("https://user:secret@example.com", InvalidAddress::Credentials),
            ("https://example.com/v1?key=secret", InvalidAddress::Query),
            ("https://example.com/#secret", InvalidAddress::Query),
        ] {
            assert_eq!(Address::parse(typed), Err(expected), "{typed:?}");
        }
    }

    #[test]
    fn this_machine_is_told_from_others() {
        for (typed, is_loopback) in [
            ("http://localhost:11434", true),
            ("http://LocalHost", true),
            ("http://judge.localhost", true),
            ("http://127.0.0.1:1", true),
            ("http://127.8.9.1", true),
            ("http://[::1]", true),
            ("http://0.0.0.0", false),
            ("http://192.168.1.2", false),
            ("https://localhost.example.com", false),
            ("https://127.0.0.1.example.com", false),
            ("https://notlocalhost", false),
        ] {
            let address = Address::parse(typed).unwrap();
            assert_eq!(address.is_loopback(), is_loopback, "{typed:?}");
            assert_eq!(address.is_encrypted(), typed.starts_with("https"), "{typed:?}");
        }
    }
}
