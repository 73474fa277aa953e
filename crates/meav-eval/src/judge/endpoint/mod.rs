//! A client of endpoints that speak `OpenAI`'s `POST /chat/completions`.

mod address;
mod error;
mod key;
mod reply;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use meav_job::{Cancelled, JobCtx};
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::HeaderValue;
use ureq::http::header::{AUTHORIZATION, RETRY_AFTER};
use ureq::tls::{RootCerts, TlsConfig};

use self::reply::{Content, bounded, content, server_message};
use super::rubric::Message;

pub use address::{Address, InvalidAddress};
pub use error::EndpointError;
pub use key::{ApiKey, InvalidKey};
pub use reply::Reply;

/// How long a cancellation may go unseen.
const TICK: Duration = Duration::from_millis(50);

/// Where reading a reply stops.
const MAX_REPLY_BYTES: u64 = 1 << 20;

/// The longest that a retry waits. A server that asks for more is not asked again.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// How long is waited for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For the whole of a request and its reply, the connection included.
    pub whole: Duration,
}

/// What is asked of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSettings {
    /// As the endpoint names it.
    pub model: String,
    /// The longest reply. Some models think first, and need more than a name's few tokens.
    pub max_tokens: u32,
    /// Sent along if there is one; not every server heeds it.
    pub seed: Option<u32>,
    /// See [`Timeouts`].
    pub timeouts: Timeouts,
    /// How often a request is repeated that met a busy, failing or silent server or a broken
    /// connection.
    pub n_retries: u32,
    /// How long the first repetition waits, unless the server says; each later one twice as long.
    pub first_pause: Duration,
}

impl EndpointSettings {
    /// 64 tokens, 10 s for a connection and 60 s for all, 3 retries from half a second on.
    pub fn of_model(model: &str) -> Self {
        Self {
            model: model.to_owned(),
            max_tokens: 64,
            seed: Some(0),
            timeouts: Timeouts { connect: Duration::from_secs(10), whole: Duration::from_mins(1) },
            n_retries: 3,
            first_pause: Duration::from_millis(500),
        }
    }
}

/// An endpoint that can be asked.
///
/// Redirects are not followed. Proxies are taken from the environment (`HTTPS_PROXY`, `NO_PROXY`,
/// …), never for this machine. Certificates are held against those that the system trusts, so that
/// a company's or a user's own authority counts.
#[derive(Debug)]
pub struct Endpoint {
    address: Address,
    key: Option<ApiKey>,
    settings: EndpointSettings,
    agent: Agent,
}

impl Endpoint {
    /// Connects to nobody yet.
    ///
    /// # Errors
    ///
    /// [`EndpointError::KeyInTheClear`] for a key and an `http://` address of another machine,
    /// [`EndpointError::NoModel`] if the settings name none.
    pub fn new(
        address: Address,
        key: Option<ApiKey>,
        settings: EndpointSettings,
    ) -> Result<Self, EndpointError> {
        if key.is_some() && !address.is_encrypted() && !address.is_loopback() {
            return Err(EndpointError::KeyInTheClear { address: address.url().to_owned() });
        }
        if settings.model.trim().is_empty() {
            return Err(EndpointError::NoModel);
        }
        let agent = agent(&address, settings.timeouts);
        Ok(Self { address, key, settings, agent })
    }

    /// Asks for the reply to `messages`, at temperature 0.
    ///
    /// Blocks, but sees a cancellation within 0.1 s, also while it waits. The request itself then
    /// ends on a thread of its own, at the latest after [`Timeouts::whole`], unheard.
    ///
    /// # Errors
    ///
    /// An [`EndpointError`] after the last retry, or at once where a retry would not help;
    /// [`EndpointError::Cancelled`] if the job was.
    pub fn ask(&self, messages: &[Message], job: &JobCtx<'_>) -> Result<Reply, EndpointError> {
        job.check()?;
        let body: Arc<[u8]> = self.request(messages).to_string().into_bytes().into();
        let mut n_tries = 0;
        loop {
            let err = match self.ask_once(&body, job) {
                Ok(reply) => return Ok(reply),
                Err(err) => err,
            };
            let pause = self.pause_after(&err, n_tries).filter(|pause| *pause <= MAX_PAUSE);
            let Some(pause) = pause.filter(|_| n_tries < self.settings.n_retries) else {
                return Err(err);
            };
            wait_out(pause, job)?;
            n_tries += 1;
        }
    }

    fn request(&self, messages: &[Message]) -> Value {
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| json!({"role": message.role.as_str(), "content": message.content}))
            .collect();
        let EndpointSettings { model, max_tokens, seed, .. } = &self.settings;
        let mut request = json!({
            "model": model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": max_tokens,
        });
        if let Some(seed) = seed {
            request["seed"] = json!(seed);
        }
        request
    }

    /// How long to wait before the request is repeated; `None` if that would not help.
    fn pause_after(&self, err: &EndpointError, n_tries: u32) -> Option<Duration> {
        let wait = match err {
            EndpointError::TooManyRequests { wait, .. } | EndpointError::Server { wait, .. } => {
                *wait
            }
            EndpointError::TimedOut { .. } | EndpointError::Truncated { .. } => None,
            _ => return None,
        };
        let doubled = self.settings.first_pause.saturating_mul(2_u32.saturating_pow(n_tries));
        Some(wait.unwrap_or_else(|| doubled.min(MAX_PAUSE)))
    }

    fn ask_once(&self, body: &Arc<[u8]>, job: &JobCtx<'_>) -> Result<Reply, EndpointError> {
        let (sender, receiver) = sync_channel(1);
        let exchange = self.exchange(body);
        thread::Builder::new()
            .name("judge-request".to_owned())
            // Nobody listens any more if the job was cancelled.
            .spawn(move || drop(sender.send(exchange())))
            .map_err(|source| self.no_thread(Some(source)))?;
        loop {
            match receiver.recv_timeout(TICK) {
                Ok(Ok(response)) => return self.reply(response),
                Ok(Err(source)) => return Err(self.failure(source)),
                Err(RecvTimeoutError::Timeout) => job.check()?,
                Err(RecvTimeoutError::Disconnected) => return Err(self.no_thread(None)),
            }
        }
    }

    fn no_thread(&self, source: Option<io::Error>) -> EndpointError {
        EndpointError::Thread { address: self.address.url().to_owned(), source }
    }

    /// The blocking part, for another thread.
    fn exchange(
        &self,
        body: &Arc<[u8]>,
    ) -> impl FnOnce() -> Result<Response, ureq::Error> + Send + 'static {
        let mut request = self.agent.post(self.address.url()).content_type("application/json");
        if let Some(header) = self.key.as_ref().and_then(bearer) {
            request = request.header(AUTHORIZATION, header);
        }
        let body = Arc::clone(body);
        move || {
            let mut response = request.send(&*body)?;
            let retry_after = response.headers().get(RETRY_AFTER);
            let wait = retry_after
                .and_then(|value| value.to_str().ok())
                .and_then(|value| retry_after_of(value, Timestamp::now()));
            let status = response.status().as_u16();
            let body = response.body_mut().with_config().limit(MAX_REPLY_BYTES).read_to_vec();
            Ok(Response { status, wait, body })
        }
    }

    fn reply(&self, response: Response) -> Result<Reply, EndpointError> {
        let address = self.address.url().to_owned();
        if !(200..300).contains(&response.status) {
            return Err(self.refusal(&response));
        }
        let body = response.body.map_err(|source| self.broken_body(source))?;
        let body = serde_json::from_slice(&body)
            .map_err(|source| EndpointError::NotJson { address: address.clone(), source })?;
        match content(&body) {
            Content::Reply(reply) => Ok(reply),
            Content::OutOfTokens => Err(EndpointError::OutOfTokens {
                model: self.settings.model.clone(),
                max_tokens: self.settings.max_tokens,
            }),
            Content::Nothing => {
                Err(EndpointError::NoAnswer { address, message: self.message(&body) })
            }
        }
    }

    /// What a status other than success means.
    fn refusal(&self, response: &Response) -> EndpointError {
        let (status, wait) = (response.status, response.wait);
        let address = self.address.url().to_owned();
        let body: Value = response
            .body
            .as_ref()
            .ok()
            .and_then(|body| serde_json::from_slice(body).ok())
            .unwrap_or_default();
        let message = self.message(&body);
        match status {
            300..=399 => EndpointError::Redirected { address, status },
            401 | 403 => {
                EndpointError::KeyRefused { address, status, has_key: self.key.is_some(), message }
            }
            404 => EndpointError::NotFound { address, model: self.settings.model.clone(), message },
            429 => EndpointError::TooManyRequests { address, wait, message },
            500.. => EndpointError::Server { address, status, wait, message },
            _ => EndpointError::Refused { address, status, message },
        }
    }

    /// The server's own words, without the key, which some repeat.
    fn message(&self, body: &Value) -> String {
        let message = server_message(body);
        bounded(&self.key.as_ref().map_or_else(|| message.clone(), |key| key.redact(&message)))
    }

    /// What it means that there was no response.
    fn failure(&self, source: ureq::Error) -> EndpointError {
        let address = self.address.url().to_owned();
        let is_tls = match &source {
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::TlsRequired => true,
            ureq::Error::Io(err) => err.kind() == io::ErrorKind::InvalidData,
            _ => false,
        };
        match source {
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                EndpointError::Unreachable { address, source: Box::new(source) }
            }
            ureq::Error::Timeout(_) => self.timed_out(),
            ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => {
                EndpointError::NotHttp { address, source: Box::new(source) }
            }
            source if is_broken_connection(&source) => {
                EndpointError::Truncated { address, source: Box::new(source) }
            }
            source if is_tls => EndpointError::Insecure { address, source: Box::new(source) },
            source => EndpointError::Unreachable { address, source: Box::new(source) },
        }
    }

    /// What it means that a response has no whole body.
    fn broken_body(&self, source: ureq::Error) -> EndpointError {
        let address = self.address.url().to_owned();
        match source {
            ureq::Error::BodyExceedsLimit(limit_bytes) => {
                EndpointError::TooLarge { address, limit_bytes }
            }
            ureq::Error::Timeout(_) => self.timed_out(),
            source => EndpointError::Truncated { address, source: Box::new(source) },
        }
    }

    fn timed_out(&self) -> EndpointError {
        let address = self.address.url().to_owned();
        EndpointError::TimedOut { address, limit: self.settings.timeouts.whole }
    }
}

/// What the thread of a request brings back.
struct Response {
    status: u16,
    wait: Option<Duration>,
    body: Result<Vec<u8>, ureq::Error>,
}

fn agent(address: &Address, timeouts: Timeouts) -> Agent {
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent("meav-studio")
        .accept("application/json")
        .tls_config(tls)
        .timeout_resolve(Some(timeouts.connect))
        .timeout_connect(Some(timeouts.connect))
        .timeout_global(Some(timeouts.whole));
    // A proxy elsewhere could not reach this machine, and must not see what is meant for it.
    let config = if address.is_loopback() { config.proxy(None) } else { config };
    config.build().into()
}

/// The header that carries the key; marked so that nothing prints it.
fn bearer(key: &ApiKey) -> Option<HeaderValue> {
    let text = zeroize::Zeroizing::new(format!("Bearer {}", key.expose()));
    let mut header = HeaderValue::from_str(&text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// How long a `Retry-After` of seconds or of a date says to wait.
fn retry_after_of(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(secs) = value.parse() {
        return Some(Duration::from_secs(secs));
    }
    let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(at.duration_since(now).try_into().unwrap_or_default())
}

/// Whether a server that was there has hung up.
fn is_broken_connection(err: &ureq::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let ureq::Error::Io(err) = err else { return false };
    matches!(err.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// Waits for `pause` to be over, or for the job to be cancelled.
fn wait_out(pause: Duration, job: &JobCtx<'_>) -> Result<(), Cancelled> {
    let end = Instant::now() + pause;
    loop {
        job.check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(TICK));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read_from_seconds_and_dates() {
        let now: Timestamp = "2015-10-21T07:27:00Z".parse().unwrap();
        for (value, secs) in [
            ("0", Some(0)),
            (" 20 ", Some(20)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(60)),
            ("Wed, 21 Oct 2015 07:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(retry_after_of(value, now), secs.map(Duration::from_secs), "{value:?}");
        }
    }

    #[test]
    fn a_key_goes_encrypted_or_stays_here() {
        let key = || ApiKey::new("sk-1").unwrap();
        for (address, has_key, is_refused) in [
            ("http://example.com", true, true),
            ("http://192.168.0.2:8000/v1", true, true),
            ("http://example.com", false, false),
            ("http://localhost:8000", true, false),
            ("http://127.0.0.1", true, false),
            ("https://example.com", true, false),
        ] {
            let settings = EndpointSettings::of_model("m");
            let address = Address::parse(address).unwrap();
            let res = Endpoint::new(address.clone(), has_key.then(key), settings);
            let is_clear = matches!(res, Err(EndpointError::KeyInTheClear { .. }));
            assert_eq!((is_clear, res.is_err()), (is_refused, is_refused), "{address}");
        }
    }
}
