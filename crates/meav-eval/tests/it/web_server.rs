//! A web server that says what a test wants it to.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What the server does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Sends these bytes and closes the connection.
    Raw(Vec<u8>),
    /// Sends these bytes and keeps the connection open.
    RawThenSilence(Vec<u8>),
    /// Sends a status, a header and a body.
    Whole { status: u16, header: String, body: String },
    /// Says nothing and keeps the connection open.
    Silence,
    /// Closes the connection without a word.
    HangUp,
}

impl Answer {
    pub(crate) fn of(status: u16, body: String) -> Self {
        Self::with_header(status, "Content-Type: application/json", body)
    }

    pub(crate) fn with_header(status: u16, header: &str, body: String) -> Self {
        Self::Whole { status, header: header.to_owned(), body }
    }

    /// A body that ends before its announced length.
    pub(crate) fn cut(body: &str) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len() + 10);
        Self::Raw(format!("{head}{body}").into_bytes())
    }
}

/// What came in.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: String,
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<Request>>,
    arrived: Condvar,
    is_over: AtomicBool,
}

/// Gives each request the next of its answers; ends, with its port, when it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("test-server".to_owned())
            .spawn(move || serve(&listener, answers, &theirs))
            .unwrap();
        Self { address, shared, thread: Some(thread) }
    }

    pub(crate) fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub(crate) fn wait_for_request(&self) {
        let requests = self.shared.requests.lock().unwrap();
        let wait =
            self.shared.arrived.wait_timeout_while(requests, Duration::from_secs(20), |requests| {
                requests.is_empty()
            });
        assert!(!wait.unwrap().1.timed_out(), "no request came");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        // Wakes the thread from its wait for a connection.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(listener: &TcpListener, answers: Vec<Answer>, shared: &Shared) {
    // Dropped, and with it closed, only when the server ends.
    let mut silent = Vec::new();
    let mut answers = answers.into_iter();
    for stream in listener.incoming() {
        if shared.is_over.load(Ordering::Acquire) {
            return;
        }
        let mut stream = stream.unwrap();
        let Some(request) = read_request(&mut stream) else { continue };
        shared.requests.lock().unwrap().push(request);
        shared.arrived.notify_all();
        let Some(answer) = answers.next() else { continue };
        if !give(&answer, &mut stream) {
            silent.push(stream);
        }
    }
}

/// Gives the answer, and says whether that was all of it. A client may hang up before.
fn give(answer: &Answer, stream: &mut TcpStream) -> bool {
    match answer {
        Answer::Raw(bytes) => drop(stream.write_all(bytes)),
        Answer::RawThenSilence(bytes) => {
            drop(stream.write_all(bytes));
            return false;
        }
        Answer::Whole { status, header, body } => {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status} Status\r\n{header}\r\nContent-Length: {length}\r\n\
                 Connection: close\r\n\r\n"
            );
            drop(stream.write_all(format!("{head}{body}").as_bytes()));
        }
        Answer::Silence => return false,
        Answer::HangUp => {}
    }
    true
}

/// Reads a request with a `Content-Length`; `None` if it is not HTTP or not whole.
fn read_request(stream: &mut TcpStream) -> Option<Request> {
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(request) = whole_request(&bytes) {
            return Some(request);
        }
        let n = stream.read(&mut buffer).ok()?;
        bytes.extend_from_slice(&buffer[..n]);
        // A greeting of TLS is answered at once, as a server without TLS would.
        if n == 0 || bytes.first() == Some(&22) {
            drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
            return None;
        }
    }
}

fn whole_request(bytes: &[u8]) -> Option<Request> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.to_lowercase().lines().find_map(|line| {
        line.strip_prefix("content-length:").and_then(|value| value.trim().parse::<usize>().ok())
    })?;
    let head = format!("{head}\r\n");
    (body.len() >= length).then(|| Request { head, body: body.to_owned() })
}
