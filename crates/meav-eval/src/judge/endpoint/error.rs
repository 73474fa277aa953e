use std::time::Duration;

use meav_job::Cancelled;

/// Why an endpoint gave no answer. No message holds the key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The key would be sent in the clear to another machine.
    #[error(
        "{address} is not encrypted, and the key would be sent for anyone on the way to read: use \
         an https:// address"
    )]
    KeyInTheClear {
        /// The endpoint.
        address: String,
    },
    /// No model is named.
    #[error("no model is named for the endpoint")]
    NoModel,
    /// No connection came about: no such host, nobody listening, no network.
    #[error("{address} cannot be reached")]
    Unreachable {
        /// The endpoint.
        address: String,
        /// What the network says.
        source: Box<ureq::Error>,
    },
    /// The certificate is not trusted, or the server speaks no TLS.
    #[error("no secure connection to {address} could be made")]
    Insecure {
        /// The endpoint.
        address: String,
        /// What is wrong.
        source: Box<ureq::Error>,
    },
    /// It took the request and did not answer in time.
    #[error("{address} did not answer within {} s", limit.as_secs_f64())]
    TimedOut {
        /// The endpoint.
        address: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// Status 401 or 403.
    #[error(
        "{address} refuses the {} (status {status}){}",
        if *has_key { "key" } else { "request, as there is no key" },
        said(message)
    )]
    KeyRefused {
        /// The endpoint.
        address: String,
        /// As the server gave it.
        status: u16,
        /// Whether there was a key to refuse.
        has_key: bool,
        /// The server's own words, or none.
        message: String,
    },
    /// Status 404.
    #[error(
        "{address} does not exist or does not know the model {model:?} (status 404){}",
        said(message)
    )]
    NotFound {
        /// The endpoint.
        address: String,
        /// The model that was asked for.
        model: String,
        /// The server's own words, or none.
        message: String,
    },
    /// Status 429, after all retries.
    #[error("{address} has had too many requests (status 429){}{}", wait_for(*wait), said(message))]
    TooManyRequests {
        /// The endpoint.
        address: String,
        /// How long it asks to be left alone.
        wait: Option<Duration>,
        /// The server's own words, or none.
        message: String,
    },
    /// Status 5xx, after all retries.
    #[error("{address} failed (status {status}){}", said(message))]
    Server {
        /// The endpoint.
        address: String,
        /// As the server gave it.
        status: u16,
        /// How long it asks to be left alone.
        wait: Option<Duration>,
        /// The server's own words, or none.
        message: String,
    },
    /// Another status, e.g. 400 for a setting that the model does not have.
    #[error("{address} refuses the request (status {status}){}", said(message))]
    Refused {
        /// The endpoint.
        address: String,
        /// As the server gave it.
        status: u16,
        /// The server's own words, or none.
        message: String,
    },
    /// Status 3xx. The key must not go to whatever server the reply names.
    #[error("{address} sends elsewhere (status {status}): redirects are not followed")]
    Redirected {
        /// The endpoint.
        address: String,
        /// As the server gave it.
        status: u16,
    },
    /// What came is no answer of HTTP.
    #[error("{address} does not answer as a web server does")]
    NotHttp {
        /// The endpoint.
        address: String,
        /// What is wrong with it.
        source: Box<ureq::Error>,
    },
    /// The reply is longer than any answer can be.
    #[error("the reply of {address} is longer than {limit_bytes} bytes")]
    TooLarge {
        /// The endpoint.
        address: String,
        /// Where reading stopped.
        limit_bytes: u64,
    },
    /// The connection broke before the end of the reply.
    #[error("the connection to {address} broke before the reply was whole")]
    Truncated {
        /// The endpoint.
        address: String,
        /// What the network says.
        source: Box<ureq::Error>,
    },
    /// A web page, as from a wrong path, or something else.
    #[error("the reply of {address} is not JSON: is it the address of an OpenAI-compatible API?")]
    NotJson {
        /// The endpoint.
        address: String,
        /// Where it stops being JSON.
        source: serde_json::Error,
    },
    /// JSON without an answer in it.
    #[error("the reply of {address} holds no answer{}", said(message))]
    NoAnswer {
        /// The endpoint.
        address: String,
        /// The server's own words, or none.
        message: String,
    },
    /// The model came to the limit of tokens before it said anything.
    #[error(
        "{model:?} used up its {max_tokens} tokens before it answered: allow it more, or pick a \
         model that does not think first"
    )]
    OutOfTokens {
        /// The model that was asked.
        model: String,
        /// What it was allowed.
        max_tokens: u32,
    },
    /// The system gave no thread to wait for the reply on.
    #[error("no thread could be started to wait for {address}")]
    Thread {
        /// The endpoint.
        address: String,
        /// What the system says; `None` if the thread ended without a result.
        source: Option<std::io::Error>,
    },
    /// See [`Cancelled`].
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message:?}") }
}

fn wait_for(wait: Option<Duration>) -> String {
    wait.map_or_else(String::new, |wait| {
        format!(" and asks to be left alone for {} s", wait.as_secs_f64().ceil())
    })
}
