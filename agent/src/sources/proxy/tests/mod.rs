//! A proxy between real clients and a real service, with the test as its pipeline.

mod callers;

mod passing;

mod recording;

mod unavailable;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use edgetrail_settings::{Parsed, Size};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::Value;
use std::sync::{Mutex, PoisonError};
use tokio::sync::mpsc;
use uuid::Uuid as Id;

use super::*;
use crate::normalize::audit::Decoder;
use crate::normalize::names::Names;
use crate::normalize::{Host, Made, Normalizer};
use crate::observation::{self, Outcome, Outlet};
use crate::redact::{self, Redactor};

/// A body of frames that a test sends one by one.
#[derive(Debug)]
pub(super) struct Frames(mpsc::Receiver<Frame<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|frame| frame.map(Ok))
    }
}

pub(super) fn frames() -> (mpsc::Sender<Frame<Bytes>>, Frames) {
    let (sender, receiver) = mpsc::channel(1);
    (sender, Frames(receiver))
}

pub(super) type Boxed = http_body_util::combinators::BoxBody<Bytes, Infallible>;

pub(super) fn full(text: impl Into<Bytes>) -> Boxed {
    Full::new(text.into()).boxed()
}

/// A service, and how many requests it had.
#[derive(Debug)]
pub(super) struct Upstreamed {
    pub(super) address: SocketAddr,
    pub(super) asked: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

/// Serves HTTP/1.1 and HTTP/2 with `answer`.
pub(super) async fn service<F>(answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static) -> Upstreamed
where
    F: Future<Output = Response<Boxed>> + Send + 'static,
{
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = socket.accept().await.unwrap();
            let (answer, count) = (answer.clone(), Arc::clone(&count));
            connections.spawn(async move {
                let service = service_fn(move |request| {
                    count.fetch_add(1, Ordering::SeqCst);
                    let answered = answer(request);
                    async move { Ok::<_, Infallible>(answered.await) }
                });
                let builder = auto::Builder::new(TokioExecutor::new());
                drop(builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await);
            });
        }
    });
    Upstreamed { address, asked, _tasks: tasks }
}

/// Tells back what came: method, path, headers and body as JSON.
pub(super) async fn echo(request: Request<Incoming>) -> Response<Boxed> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let headers: serde_json::Map<String, Value> =
        parts.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().into())).collect();
    let told = serde_json::json!({"method": parts.method.as_str(), "uri": parts.uri.to_string(), "headers": headers,
        "version": format!("{:?}", parts.version), "body": String::from_utf8_lossy(&body)});
    Response::builder()
        .header("content-type", "application/json")
        .header("x-request-id", "r-1")
        .body(full(told.to_string()))
        .unwrap()
}

/// A proxy that runs, and what came of it.
#[derive(Debug)]
pub(super) struct Proxied {
    pub(super) address: SocketAddr,
    pub(super) records: Arc<Mutex<Vec<Value>>>,
    /// Whether the buffer takes records.
    pub(super) is_open: Arc<AtomicBool>,
    /// Whether the proxy knows that it does not.
    pub(super) has_room: Arc<AtomicBool>,
    pub(super) standing: Standing,
    pub(super) stop: CancellationToken,
    pub(super) tasks: JoinSet<()>,
}

pub(super) fn config(upstream: &str) -> Config {
    Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        upstream: Some(Parsed(upstream.parse().unwrap())),
        service: "orders.example".to_owned(),
        ..Config::default()
    }
}

pub(super) async fn proxied(config: Config) -> Proxied {
    let queue_max = config.queue_max;
    proxied_with(config, queue_max).await
}

/// With a queue that may be smaller than a configured one.
pub(super) async fn proxied_with(config: Config, queue_max: Size) -> Proxied {
    assert_eq!(config.trouble(), None);
    let config = Config { queue_max, ..config };
    let door = open(&config).await.unwrap();
    let address = door.sockets[0].local_addr().unwrap();
    let (intake, outlet) = observation::intake();
    let (is_open, has_room) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
    let (records, stop, standing) = (Arc::default(), CancellationToken::new(), Standing::default());
    let mut tasks = JoinSet::new();
    let room = Arc::clone(&has_room);
    let has: HasRoom = Arc::new(move || room.load(Ordering::SeqCst));
    let (told, stopped) = (standing.clone(), stop.clone());
    tasks.spawn(async move { run(&config, door, has, told, intake.prompt(), stopped).await });
    tasks.spawn(pipeline(outlet, Arc::clone(&records), Arc::clone(&is_open)));
    Proxied { address, records, is_open, has_room, standing, stop, tasks }
}

/// Makes records as the pipeline does, and answers as a buffer that is open or full.
async fn pipeline(mut outlet: Outlet, records: Arc<Mutex<Vec<Value>>>, is_open: Arc<AtomicBool>) {
    let mut normalizer = Normalizer::new(Host::for_tests(), Decoder::default(), Names::default());
    let redactor = Redactor::new(redact::Config::default()).unwrap();
    let mut waiting: VecDeque<_> = VecDeque::new();
    while let Some(group) = outlet.recv().await {
        waiting.extend(group);
        while let Some(mut observation) = waiting.pop_front() {
            if !is_open.load(Ordering::SeqCst)
                && let Some(answer) = observation.answer.take()
            {
                drop(answer.0.send(Outcome::Unavailable { retry_after_s: 1 }));
                continue;
            }
            for draft in normalizer.normalize(&observation) {
                let mut made = draft.record;
                redactor.redact(&mut made);
                let Made::Record(mut record) = made else { panic!("a proxy's records are made here") };
                let record = serde_json::from_slice(&record.to_fitted_json()).unwrap();
                records.lock().unwrap().push(record);
            }
            if let Some(answer) = observation.answer {
                drop(answer.0.send(Outcome::Committed { event_ids: vec![Id::nil()] }));
            }
        }
    }
}

impl Proxied {
    /// The records, when there are so many.
    pub(super) async fn records(&self, count: usize) -> Vec<Value> {
        for _ in 0..1000 {
            {
                let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
                if records.len() >= count {
                    return records.clone();
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no {count} records: {:#?}", self.records.lock().unwrap());
    }

    /// The one record.
    pub(super) async fn record(&self) -> Value {
        let records = self.records(1).await;
        assert_eq!(records.len(), 1, "{records:#?}");
        records[0].clone()
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Stops it; everything has ended then.
    pub(super) async fn end(mut self) -> Vec<Value> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.records.lock().unwrap().clone()
    }
}

/// What a request is answered: HTTP/2 where `is_h2`.
pub(super) async fn ask(request: Request<Boxed>, is_h2: bool) -> (StatusCode, HeaderMap, Bytes) {
    let client = Client::builder(TokioExecutor::new()).http2_only(is_h2).build_http::<Boxed>();
    let (head, body) = client.request(request).await.unwrap().into_parts();
    let collected = body.collect().await.unwrap();
    let mut headers = head.headers;
    headers.extend(collected.trailers().cloned().unwrap_or_default());
    (head.status, headers, collected.to_bytes())
}

pub(super) async fn get(proxy: &Proxied, path: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, Bytes) {
    let mut request = Request::get(proxy.url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    ask(request.body(full("")).unwrap(), false).await
}
