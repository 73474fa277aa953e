//! The client of endpoints against a server in this process.

use std::sync::Mutex;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use meav_eval::judge::{Address, ApiKey, Endpoint, EndpointError, EndpointSettings, level_prompt};
use meav_job::{CancelToken, JobCtx};
use meav_protocol::Rubric;
use serde_json::{Value, json};

use crate::web_server::{Answer, Server};

const KEY: &str = "sk-do-not-tell-4711";

/// All that is logged in this process, by us and by what we use.
struct Log(Mutex<Vec<String>>);

static LOG: Log = Log(Mutex::new(Vec::new()));

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut lines = self.0.lock().unwrap();
        lines.push(format!("{} {}", record.target(), record.args()));
    }

    fn flush(&self) {}
}

/// What a server says that knows the answer.
fn good(text: &str) -> String {
    json!({"choices": [{"message": {"role": "assistant", "content": text},
        "finish_reason": "stop"}]})
    .to_string()
}

/// As the defaults, but with no patience.
fn settings() -> EndpointSettings {
    let mut settings = EndpointSettings::of_model("judge-1");
    settings.first_pause = Duration::from_millis(1);
    settings.timeouts.connect = Duration::from_secs(5);
    settings.timeouts.whole = Duration::from_secs(5);
    settings
}

fn endpoint(server: &Server, settings: EndpointSettings) -> Endpoint {
    let address = Address::parse(&server.address()).unwrap();
    Endpoint::new(address, Some(ApiKey::new(KEY).unwrap()), settings).unwrap()
}

fn ask(endpoint: &Endpoint, job: &JobCtx<'_>) -> Result<String, EndpointError> {
    let rubric = Rubric::of(["expert", "generic"]);
    endpoint.ask(&level_prompt(&rubric, "Why?", "Because."), job).map(|reply| reply.text)
}

/// The error that the answers lead to, in words with all its sources; fails if the key is in it.
fn error_after(answers: Vec<Answer>, settings: EndpointSettings) -> (EndpointError, String) {
    let server = Server::start(answers);
    let endpoint = endpoint(&server, settings);
    let err = ask(&endpoint, &JobCtx::detached()).unwrap_err();
    let mut words = err.to_string();
    let mut source = std::error::Error::source(&err);
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    for text in [words.clone(), format!("{err:?}"), format!("{endpoint:?}")] {
        assert!(!text.contains(KEY) && !text.contains("4711"), "{text}");
    }
    (err, words)
}

#[test]
fn a_good_answer_comes_from_a_whole_request() {
    let server = Server::start(vec![Answer::of(200, good("**Expert**"))]);
    let reply = ask(&endpoint(&server, settings()), &JobCtx::detached()).unwrap();
    assert_eq!(reply, "**Expert**");

    let requests = server.requests();
    let [request] = &requests[..] else { panic!("{requests:?}") };
    assert!(request.head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{request:?}");
    let head = request.head.to_lowercase();
    assert!(head.contains(&format!("authorization: bearer {KEY}\r\n")), "{head}");
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    let body: Value = serde_json::from_str(&request.body).unwrap();
    let messages = level_prompt(&Rubric::of(["expert", "generic"]), "Why?", "Because.");
    let expected = json!({
        "model": "judge-1",
        "messages": [
            {"role": "system", "content": messages[0].content},
            {"role": "user", "content": messages[1].content},
        ],
        "temperature": 0,
        "max_tokens": 64,
        "seed": 0,
    });
    assert_eq!(body, expected);
}

#[test]
fn the_key_is_in_no_log() {
    log::set_logger(&LOG).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let server = Server::start(vec![Answer::of(500, String::new()), Answer::of(200, good("a"))]);
    ask(&endpoint(&server, settings()), &JobCtx::detached()).unwrap();
    let lines = LOG.0.lock().unwrap().join("\n");
    assert!(lines.contains("ureq"), "nothing of the request is logged: {lines}");
    assert!(!lines.contains(KEY), "{lines}");
}

#[test]
fn no_key_sends_no_authorization() {
    let server = Server::start(vec![Answer::of(200, good("expert"))]);
    let address = Address::parse(&server.address()).unwrap();
    let mut settings = settings();
    settings.seed = None;
    let endpoint = Endpoint::new(address, None, settings).unwrap();
    assert_eq!(ask(&endpoint, &JobCtx::detached()).unwrap(), "expert");
    let request = &server.requests()[0];
    assert!(!request.head.to_lowercase().contains("authorization"), "{request:?}");
    assert!(!request.body.contains("seed"), "{request:?}");
}

#[test]
fn what_would_fail_again_is_not_repeated() {
    let said = |message: &str| json!({"error": {"message": message}}).to_string();
    for (answer, expected) in [
        (
            Answer::of(401, said(&format!("Incorrect API key: {KEY}"))),
            "refuses the key (status 401): \"Incorrect API key: [key]\"",
        ),
        (Answer::of(403, said("no\nentry")), "refuses the key (status 403): \"no entry\""),
        (
            Answer::of(404, said("no such model")),
            "does not know the model \"judge-1\" (status 404): \"no such model\"",
        ),
        (
            Answer::of(400, said("no max_tokens")),
            "refuses the request (status 400): \"no max_tokens\"",
        ),
        (
            Answer::of(200, "<html>Welcome</html>".to_owned()),
            "is not JSON: is it the address of an OpenAI-compatible API?",
        ),
        (Answer::of(200, said("no credit")), "holds no answer: \"no credit\""),
        (Answer::of(200, json!({"choices": []}).to_string()), "holds no answer"),
        (
            Answer::of(
                200,
                json!({"choices": [{"message": {"content": ""}, "finish_reason": "length"}]})
                    .to_string(),
            ),
            "\"judge-1\" used up its 64 tokens before it answered",
        ),
        (Answer::of(200, "x".repeat(2 << 20)), "is longer than 1048576 bytes"),
        (Answer::Raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec()), "does not answer as a web server"),
    ] {
        // A second request would get a good answer and no error.
        let (_, words) = error_after(vec![answer, Answer::of(200, good("expert"))], settings());
        assert!(words.contains(expected), "{words}\nhas no\n{expected}");
    }
}

#[test]
fn a_busy_server_is_asked_again_when_it_says() {
    let busy =
        |wait: &str| Answer::with_header(429, &format!("Retry-After: {wait}"), "{}".to_owned());
    let server = Server::start(vec![busy("0"), Answer::of(200, good("generic"))]);
    // Without the header it would wait for longer than the test may take.
    let mut patient = settings();
    patient.first_pause = Duration::from_secs(20);
    let start = Instant::now();
    assert_eq!(ask(&endpoint(&server, patient), &JobCtx::detached()).unwrap(), "generic");
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(server.requests().len(), 2);

    let (err, words) = error_after(vec![busy("3600"), Answer::of(200, good("expert"))], settings());
    assert!(matches!(err, EndpointError::TooManyRequests { .. }), "{words}");
    assert!(words.contains("(status 429) and asks to be left alone for 3600 s"), "{words}");
}

#[test]
fn failing_servers_and_broken_connections_are_asked_three_times_more() {
    let failing = || Answer::of(503, json!({"error": "loading"}).to_string());
    for broken in [failing(), Answer::HangUp, Answer::cut(&good("expert"))] {
        let mut answers = vec![broken.clone(), broken.clone(), broken.clone()];
        let server = Server::start([&answers[..], &[Answer::of(200, good("expert"))]].concat());
        let reply = ask(&endpoint(&server, settings()), &JobCtx::detached());
        assert_eq!(reply.unwrap(), "expert", "{broken:?}");
        assert_eq!(server.requests().len(), 4, "{broken:?}");

        answers.extend([broken.clone(), Answer::of(200, good("expert"))]);
        let (_, words) = error_after(answers, settings());
        let expected = match broken {
            Answer::HangUp | Answer::Raw(_) => "broke before the reply was whole",
            _ => "failed (status 503): \"loading\"",
        };
        assert!(words.contains(expected), "{words}\nhas no\n{expected}");
    }
}

#[test]
fn nobody_listening_is_said() {
    let address = Server::start(Vec::new()).address();
    let mut settings = settings();
    settings.n_retries = 0;
    let endpoint = Endpoint::new(Address::parse(&address).unwrap(), None, settings).unwrap();
    // The server is gone, and its port with it.
    let err = ask(&endpoint, &JobCtx::detached()).unwrap_err();
    assert!(matches!(err, EndpointError::Unreachable { .. }), "{err:?}");
}

#[test]
fn a_silent_server_is_asked_again_and_given_up_at_last() {
    let mut settings = settings();
    settings.timeouts.whole = Duration::from_millis(200);
    let server = Server::start(vec![Answer::Silence, Answer::of(200, good("expert"))]);
    let reply = ask(&endpoint(&server, settings.clone()), &JobCtx::detached());
    assert_eq!(reply.unwrap(), "expert");

    settings.n_retries = 0;
    let (err, words) =
        error_after(vec![Answer::Silence, Answer::of(200, good("expert"))], settings.clone());
    assert!(matches!(err, EndpointError::TimedOut { .. }), "{words}");
    assert!(words.ends_with("did not answer within 0.2 s"), "{words}");

    // A head and then nothing is no better.
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{".to_vec();
    let (err, words) =
        error_after(vec![Answer::RawThenSilence(head), Answer::of(200, good("expert"))], settings);
    assert!(matches!(err, EndpointError::TimedOut { .. }), "{words}");
}

#[test]
fn no_tls_is_said() {
    let server = Server::start(vec![Answer::of(200, good("expert"))]);
    let address = server.address().replace("http://", "https://");
    let endpoint = Endpoint::new(
        Address::parse(&address).unwrap(),
        Some(ApiKey::new(KEY).unwrap()),
        settings(),
    )
    .unwrap();
    let err = ask(&endpoint, &JobCtx::detached()).unwrap_err();
    assert!(matches!(err, EndpointError::Insecure { .. }), "{err:?}");
}

/// Asks in a thread, cancels once `server` has had a request, and says how long that took to see.
fn time_to_cancel(server: &Server, endpoint: &Endpoint) -> Duration {
    let cancel = CancelToken::default();
    let (sender, receiver) = sync_channel(1);
    thread::scope(|scope| {
        scope.spawn(|| {
            let res = ask(endpoint, &JobCtx::new(cancel.clone(), &|_| {}));
            sender.send((res, Instant::now())).unwrap();
        });
        server.wait_for_request();
        let start = Instant::now();
        cancel.cancel();
        let (res, end) = receiver.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(matches!(res, Err(EndpointError::Cancelled(_))), "{res:?}");
        end - start
    })
}

#[test]
fn a_cancellation_is_seen_while_waiting() {
    let mut patient = settings();
    patient.timeouts.whole = Duration::from_mins(1);
    patient.first_pause = Duration::from_secs(20);
    for answer in [
        Answer::Silence,
        Answer::with_header(429, "Retry-After: 25", "{}".to_owned()),
        Answer::of(500, String::new()),
    ] {
        let server = Server::start(vec![answer.clone()]);
        let took = time_to_cancel(&server, &endpoint(&server, patient.clone()));
        assert!(took < Duration::from_millis(500), "{answer:?}: {took:?}");
    }
    let server = Server::start(vec![Answer::of(200, good("expert"))]);
    let cancel = CancelToken::default();
    cancel.cancel();
    let res = ask(&endpoint(&server, settings()), &JobCtx::new(cancel, &|_| {}));
    assert!(matches!(res, Err(EndpointError::Cancelled(_))), "{res:?}");
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn redirects_are_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let elsewhere = Server::start(vec![Answer::of(200, good("expert"))]);
        let location = format!("Location: {}/v1/chat/completions", elsewhere.address());
        let redirect = Answer::with_header(status, &location, String::new());
        let (err, words) = error_after(vec![redirect], settings());
        assert!(matches!(err, EndpointError::Redirected { .. }), "{words}");
        assert_eq!(elsewhere.requests().len(), 0, "{status}");
    }
}
