//! A server that stands between a client and a registry (or is one itself) and does wrong what it is told to
//! do wrong: for tests of pulling and pushing. Plain http on loopback, one request a connection. Only std, so
//! that any test can take it in by `#[path]`.

#![allow(dead_code, missing_docs)] // each user takes what it needs

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How long a stalled connection is held at most.
const STALL: Duration = Duration::from_secs(30);

/// What is done wrong. Offsets count bytes of the body.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The answer's connection ends after so many bytes.
    BreakAfter(usize),
    /// The answer stops after so many bytes; the connection stays.
    StallAfter(usize),
    /// Only so many bytes are sent, and called the whole.
    Truncate(usize),
    /// One byte is another.
    Corrupt(usize),
    /// The second half comes first.
    Reorder,
    /// The body comes twice, in one answer with the length of both.
    Twice,
    /// The body comes twice, in chunks, so that no length warns of it.
    TwiceInChunks,
    /// This is answered in place of the registry.
    Status(u16, Vec<(String, String)>, String),
    /// The request loses its `Range`.
    IgnoreRange,
    /// The answer gets this header in place of its own.
    Header(String, String),
    /// The request is sent on to this URL.
    Redirect(String),
    /// The answer has a header of so many bytes.
    HugeHeader(usize),
    /// The answer comes a byte at a time, with this pause between.
    Slow(Duration),
    /// The answer's body comes a byte at a time, with this pause between.
    Drip(Duration),
    /// The answer's body comes in pieces of so many bytes, with this pause between.
    Pieces(usize, Duration),
    /// These bytes are the answer.
    Raw(Vec<u8>),
    /// Nothing is answered; the connection stays.
    Silence,
    /// The connection ends before the request's body has been read further than this; the registry gets so much.
    BreakRequest(usize),
    /// The registry gets the request, the client no answer.
    LoseAnswer,
}

/// When something is done wrong.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The request's method; empty for any.
    pub method: &'static str,
    /// What the request's target holds.
    pub target: String,
    /// How many such requests pass first.
    pub pass: usize,
    /// How many are spoiled then.
    pub times: usize,
    /// How.
    pub fault: Fault,
}

impl Rule {
    /// Spoils the first `times` requests whose target holds `target`.
    pub fn new(method: &'static str, target: &str, times: usize, fault: Fault) -> Self {
        Self { method, target: target.to_owned(), pass: 0, times, fault }
    }
}

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// An answer as it goes.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

impl Response {
    /// An answer of text.
    pub fn new(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { status, headers, body: body.into() }
    }
}

/// Who answers what is not spoiled.
#[derive(Clone)]
pub enum Upstream {
    /// A registry.
    At(SocketAddr),
    /// A function.
    Made(Arc<dyn Fn(&Request) -> Response + Send + Sync>),
}

/// A running server. It ends when this is dropped.
pub struct Faults {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: Upstream,
    plan: Mutex<Vec<(Rule, usize)>>,
    seen: Mutex<Vec<Request>>,
    ended: AtomicBool,
    end: (Mutex<bool>, Condvar),
}

/// Listens at `listen` (`127.0.0.1:0`), sends on to `upstream`, and spoils what the plan says: for each request
/// the first rule that fits and is not used up.
pub fn start(listen: &str, upstream: Upstream, plan: Vec<Rule>) -> io::Result<Faults> {
    let listener = TcpListener::bind(listen)?;
    let address = listener.local_addr()?;
    let shared = Arc::new(Shared {
        upstream,
        plan: Mutex::new(plan.into_iter().map(|rule| (rule, 0)).collect()),
        seen: Mutex::default(),
        ended: AtomicBool::new(false),
        end: <_>::default(),
    });
    let server = shared.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            if server.ended.load(Ordering::SeqCst) {
                break;
            }
            let shared = server.clone();
            // What goes wrong with a connection is the client's to notice.
            std::thread::spawn(move || drop(serve(&shared, client)));
        }
    });
    Ok(Faults { address, shared })
}

impl Faults {
    /// All requests so far, in order.
    pub fn seen(&self) -> Vec<Request> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Replaces the plan.
    pub fn plan(&self, plan: Vec<Rule>) {
        *self.shared.plan.lock().unwrap() = plan.into_iter().map(|rule| (rule, 0)).collect();
    }

    /// `host:port`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        *self.shared.end.0.lock().unwrap() = true;
        self.shared.end.1.notify_all();
        // The listener waits for one more.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(shared: &Shared, mut client: TcpStream) -> io::Result<()> {
    client.set_read_timeout(Some(STALL))?;
    let mut first = [0];
    if client.peek(&mut first)? == 0 {
        return Ok(());
    }
    // A TLS handshake: this server has none, and says so as others do.
    if first[0] == 0x16 {
        return client.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent TLS to an HTTP server.\n");
    }
    let head = read_head(&mut client)?;
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let mut request = Request {
        method: words.next().unwrap_or_default().to_owned(),
        target: words.next().unwrap_or_default().to_owned(),
        headers: headers(lines),
        body: Vec::new(),
    };
    let fault = shared.choose(&request);
    if request.header("expect").is_some_and(|it| it.eq_ignore_ascii_case("100-continue")) {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if let Some(Fault::BreakRequest(most)) = fault {
        let length = length(&request.headers);
        request.body = vec![0; most.min(length)];
        client.read_exact(&mut request.body)?;
        shared.seen.lock().unwrap().push(request.clone());
        if let Upstream::At(address) = shared.upstream {
            send(address, &request, length)?.shutdown(Shutdown::Both)?;
        }
        return Ok(());
    }
    request.body = read_body(&mut client, &request.headers)?;
    shared.seen.lock().unwrap().push(request.clone());
    if matches!(fault, Some(Fault::IgnoreRange)) {
        request.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("range"));
    }
    match &fault {
        Some(Fault::Silence) => {
            shared.wait();
            return Ok(());
        }
        Some(Fault::Raw(bytes)) => return client.write_all(bytes),
        _ => {}
    }
    let response = match &fault {
        Some(Fault::Status(status, headers, body)) => {
            Response { status: *status, headers: headers.clone(), body: body.clone().into() }
        }
        Some(Fault::Redirect(to)) => Response::new(307, &[("Location", to)], ""),
        _ => match &shared.upstream {
            Upstream::Made(answer) => answer(&request),
            Upstream::At(address) => forward(*address, &request)?,
        },
    };
    if matches!(fault, Some(Fault::LoseAnswer)) {
        return Ok(());
    }
    answer(shared, &mut client, &request, response, fault)
}

impl Shared {
    fn choose(&self, request: &Request) -> Option<Fault> {
        let mut plan = self.plan.lock().unwrap();
        for (rule, count) in plan.iter_mut() {
            let fits =
                (rule.method.is_empty() || rule.method == request.method) && request.target.contains(&rule.target);
            if !fits {
                continue;
            }
            *count += 1;
            if *count > rule.pass && *count <= rule.pass + rule.times {
                return Some(rule.fault.clone());
            }
        }
        None
    }

    fn wait(&self) {
        let ended = self.end.0.lock().unwrap();
        drop(self.end.1.wait_timeout_while(ended, STALL, |ended| !*ended));
    }
}

/// Sends an answer, spoiled or not.
fn answer(
    shared: &Shared,
    client: &mut TcpStream,
    request: &Request,
    mut response: Response,
    fault: Option<Fault>,
) -> io::Result<()> {
    let mut chunked = false;
    let mut stop = None;
    match &fault {
        Some(Fault::Truncate(most)) => response.body.truncate(*most),
        Some(Fault::Corrupt(at)) => {
            if let Some(byte) = response.body.get_mut(*at) {
                *byte ^= 1;
            }
        }
        Some(Fault::Reorder) => {
            let half = response.body.len() / 2;
            response.body.rotate_left(half);
        }
        Some(Fault::Twice) => response.body.extend_from_within(..),
        Some(Fault::TwiceInChunks) => {
            response.body.extend_from_within(..);
            chunked = true;
        }
        Some(Fault::BreakAfter(most) | Fault::StallAfter(most)) => stop = Some(*most),
        Some(Fault::HugeHeader(size)) => response.headers.push(("X-Huge".to_owned(), "x".repeat(*size))),
        _ => {}
    }
    // To a HEAD, the length is that of what a GET would give.
    let length = match header(&response.headers, "content-length") {
        Some(told) if request.method == "HEAD" => told.to_owned(),
        _ => response.body.len().to_string(),
    };
    response.headers.retain(|(name, _)| {
        !["connection", "content-length", "transfer-encoding"].iter().any(|it| name.eq_ignore_ascii_case(it))
    });
    response.headers.push(("Connection".to_owned(), "close".to_owned()));
    if chunked {
        response.headers.push(("Transfer-Encoding".to_owned(), "chunked".to_owned()));
    } else if response.status != 204 {
        response.headers.push(("Content-Length".to_owned(), length));
    }
    if let Some(Fault::Header(name, value)) = &fault {
        response.headers.retain(|(it, _)| !it.eq_ignore_ascii_case(name));
        response.headers.push((name.clone(), value.clone()));
    }
    let mut bytes = format!("HTTP/1.1 {} Made\r\n", response.status).into_bytes();
    for (name, value) in &response.headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    match fault {
        Some(Fault::Slow(pause)) => pieces(client, &bytes, 1, pause)?,
        _ => client.write_all(&bytes)?,
    }
    if request.method == "HEAD" {
        return Ok(());
    }
    let body = &response.body[..stop.unwrap_or(usize::MAX).min(response.body.len())];
    if let Some(Fault::Drip(pause)) = fault {
        pieces(client, body, 1, pause)?;
    } else if let Some(Fault::Pieces(size, pause)) = fault {
        pieces(client, body, size, pause)?;
    } else if chunked {
        client.write_all(format!("{:x}\r\n", body.len()).as_bytes())?;
        client.write_all(body)?;
        client.write_all(b"\r\n0\r\n\r\n")?;
    } else {
        client.write_all(body)?;
    }
    if matches!(fault, Some(Fault::StallAfter(_))) {
        shared.wait();
    }
    Ok(())
}

fn pieces(to: &mut TcpStream, bytes: &[u8], size: usize, pause: Duration) -> io::Result<()> {
    to.set_nodelay(true)?;
    for piece in bytes.chunks(size) {
        to.write_all(piece)?;
        std::thread::sleep(pause);
    }
    Ok(())
}

/// Sends a request to the registry, with `length` announced as its body's.
fn send(upstream: SocketAddr, request: &Request, length: usize) -> io::Result<TcpStream> {
    let mut to = TcpStream::connect(upstream)?;
    to.set_read_timeout(Some(STALL))?;
    let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
    for (name, value) in &request.headers {
        let ours = ["connection", "content-length", "transfer-encoding", "expect"];
        if !ours.iter().any(|it| name.eq_ignore_ascii_case(it)) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str(&format!("Content-Length: {length}\r\nConnection: close\r\n\r\n"));
    to.write_all(head.as_bytes())?;
    to.write_all(&request.body)?;
    Ok(to)
}

/// Has the registry answer.
pub fn forward(upstream: SocketAddr, request: &Request) -> io::Result<Response> {
    let mut from = send(upstream, request, request.body.len())?;
    let head = read_head(&mut from)?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|it| it.split(' ').nth(1)?.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("the registry's answer has no status"))?;
    let headers = headers(lines);
    let bodiless = request.method == "HEAD" || status == 204 || status == 304;
    let body = if bodiless { Vec::new() } else { read_body(&mut from, &headers)? };
    Ok(Response { status, headers, body })
}

fn read_head(from: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        from.read_exact(&mut byte)?;
        head.push(byte[0]);
        if head.len() > 256 << 10 {
            return Err(io::Error::other("the head does not end"));
        }
    }
    String::from_utf8(head).map_err(io::Error::other)
}

fn headers<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    lines.filter_map(|it| it.split_once(':')).map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn length(headers: &[(String, String)]) -> usize {
    header(headers, "content-length").and_then(|it| it.parse().ok()).unwrap_or(0)
}

fn read_body(from: &mut TcpStream, headers: &[(String, String)]) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if header(headers, "transfer-encoding").is_some_and(|it| it.eq_ignore_ascii_case("chunked")) {
        loop {
            let mut line = Vec::new();
            let mut byte = [0];
            while !line.ends_with(b"\r\n") {
                from.read_exact(&mut byte)?;
                line.push(byte[0]);
            }
            let text = String::from_utf8_lossy(&line);
            let size = usize::from_str_radix(text.trim(), 16).map_err(io::Error::other)?;
            let begin = body.len();
            body.resize(begin + size + 2, 0);
            from.read_exact(&mut body[begin..])?;
            body.truncate(begin + size);
            if size == 0 {
                return Ok(body);
            }
        }
    }
    body.resize(length(headers), 0);
    from.read_exact(&mut body)?;
    Ok(body)
}
