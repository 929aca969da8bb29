//! What passes, passes unchanged, at once and in bounded memory.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::*;

#[tokio::test]
async fn requests_and_answers_pass_over_every_pair_of_versions() {
    let service = service(echo).await;
    for (scheme, version) in [("http", "HTTP/1.1"), ("h2c", "HTTP/2.0")] {
        let proxy = proxied(config(&format!("{scheme}://{}", service.address))).await;
        for is_h2 in [false, true] {
            let request = Request::post(proxy.url("/orders?a=1"))
                .header("content-type", "text/plain")
                .header("cookie", "a=1")
                .header("te", "trailers")
                .body(full("hello"))
                .unwrap();
            let (status, headers, body) = ask(request, is_h2).await;
            let told: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((status, headers["x-request-id"].as_bytes()), (StatusCode::OK, &b"r-1"[..]));
            assert_eq!((&told["method"], &told["body"], &told["version"]), (&"POST".into(), &"hello".into(), &version.into()));
            assert_eq!(told["headers"]["x-forwarded-for"], "127.0.0.1");
            assert_eq!(told["headers"]["x-forwarded-host"], proxy.address.to_string());
            assert_eq!(told["headers"]["te"], "trailers");
            assert!(told["uri"].as_str().unwrap().ends_with("/orders?a=1"), "{told}");
        }
        let records = proxy.records(2).await;
        assert_eq!(records[0]["requestParameters"]["protocol"], "HTTP/1.1");
        assert_eq!(records[1]["requestParameters"]["protocol"], "HTTP/2");
        proxy.end().await;
    }
}

#[tokio::test]
async fn a_large_body_passes_piece_by_piece_and_waits_for_a_slow_service() {
    const PIECES: usize = 512;
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    let service = service(move |request: Request<Incoming>| {
        let gate = Arc::clone(&opened);
        async move {
            gate.notified().await;
            let mut body = request.into_body();
            let mut length = 0;
            while let Some(Ok(frame)) = body.frame().await {
                length += frame.data_ref().map_or(0, Bytes::len);
            }
            Response::new(full(length.to_string()))
        }
    })
    .await;
    let proxy = proxied(config(&format!("http://{}", service.address))).await;
    let (sender, body) = frames();
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let mut sending = JoinSet::new();
    sending.spawn(async move {
        for _ in 0..PIECES {
            sender.send(Frame::data(Bytes::from_static(&[7; 64 * 1024]))).await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let request = Request::post(proxy.url("/")).header("content-type", "application/json").body(body.boxed()).unwrap();
    let asking = ask(request, false);
    let mut asking = std::pin::pin!(asking);
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut asking).await.is_err());
    // Sockets hold some MiB; the proxy next to nothing.
    let ahead = sent.load(Ordering::SeqCst);
    assert!(ahead < PIECES / 2, "{ahead} of {PIECES} pieces were taken ahead of the service");
    gate.notify_one();
    let (_, _, body) = asking.await;
    assert_eq!(body, (PIECES * 64 * 1024).to_string());
    let record = proxy.record().await;
    assert_eq!(record["requestParameters"]["bodyBytes"], PIECES * 64 * 1024);
    assert_eq!(record["requestParameters"]["body"], Value::Null);
}

#[tokio::test]
async fn an_answer_s_pieces_come_as_the_service_sends_them() {
    let (sender, body) = frames();
    let body = Arc::new(Mutex::new(Some(body)));
    let service = service(move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async move { Response::builder().header("content-type", "text/event-stream").body(body.boxed()).unwrap() }
    })
    .await;
    let proxy = proxied(config(&format!("http://{}", service.address))).await;
    let client = Client::builder(TokioExecutor::new()).build_http::<Boxed>();
    let asking = client.request(Request::get(proxy.url("/events")).body(full("")).unwrap());
    let mut answer = asking.await.unwrap().into_body();
    // The record does not wait for the end.
    assert_eq!(proxy.record().await["responseElements"]["status"], 200);
    for word in ["one", "two"] {
        sender.send(Frame::data(Bytes::from(word))).await.unwrap();
        let frame = tokio::time::timeout(Duration::from_secs(5), answer.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), word);
    }
    drop(sender);
    assert!(answer.frame().await.is_none());
}

#[tokio::test]
async fn a_connection_that_becomes_another_protocol_s_is_a_tunnel() {
    let service = service(|mut request: Request<Incoming>| async move {
        assert_eq!(request.headers()["upgrade"], "websocket");
        let upgraded = hyper::upgrade::on(&mut request);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut io = TokioIo::new(upgraded.await.unwrap());
            let mut bytes = [0; 4];
            io.read_exact(&mut bytes).await.unwrap();
            io.write_all(&[b"got ", &bytes[..]].concat()).await.unwrap();
        });
        tasks.detach_all();
        let answer = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "websocket");
        answer.header("sec-websocket-accept", "x").body(full("")).unwrap()
    })
    .await;
    let proxy = proxied(config(&format!("http://{}", service.address))).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head =
        "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"ping").await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101") && answer.to_lowercase().contains("sec-websocket-accept: x"), "{answer}");
    assert!(answer.ends_with("got ping"), "{answer}");
    let record = proxy.record().await;
    assert_eq!(
        (&record["responseElements"]["status"], &record["responseElements"]["tunnel"]),
        (&101.into(), &"websocket".into())
    );
}

#[tokio::test]
async fn a_grpc_call_keeps_its_trailers_and_its_status_is_recorded() {
    let service = service(|request: Request<Incoming>| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let trailers = HeaderMap::from_iter([
            ("grpc-status".parse().unwrap(), "7".parse().unwrap()),
            ("grpc-message".parse().unwrap(), "not%20yours".parse().unwrap()),
        ]);
        let body = Full::new(body).with_trailers(async move { Some(Ok(trailers)) });
        Response::builder().header("content-type", "application/grpc").body(body.boxed()).unwrap()
    })
    .await;
    let proxy = proxied(config(&format!("h2c://{}", service.address))).await;
    let request = Request::post(proxy.url("/shop.v1.Orders/CancelOrder"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(full(&b"\0\0\0\0\0"[..]))
        .unwrap();
    let (status, headers, body) = ask(request, true).await;
    assert_eq!((status, headers["grpc-status"].as_bytes(), body.as_ref()), (StatusCode::OK, &b"7"[..], &b"\0\0\0\0\0"[..]));
    let record = proxy.record().await;
    assert_eq!((&record["eventName"], &record["errorCode"]), (&"CancelOrder".into(), &"AccessDenied".into()));
    assert_eq!(record["errorMessage"], "not yours");
}

#[tokio::test]
async fn heads_and_continues_are_answered_as_the_service_would() {
    let service = service(|request: Request<Incoming>| async move {
        if request.method() == http::Method::HEAD {
            return Response::builder().header("content-length", "42").body(full("")).unwrap();
        }
        echo(request).await
    })
    .await;
    let proxy = proxied(config(&format!("http://{}", service.address))).await;
    let (_, headers, body) = ask(Request::head(proxy.url("/")).body(full("")).unwrap(), false).await;
    assert_eq!((headers["content-length"].as_bytes(), body.len()), (&b"42"[..], 0));
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut line = [0; 25];
    tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut line)).await.unwrap().unwrap();
    assert_eq!(&line, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(r#""body":"hello""#), "{answer}");
}

#[tokio::test]
async fn a_message_that_two_readers_read_differently_reaches_no_service() {
    let service = service(echo).await;
    let proxy = proxied(config(&format!("http://{}", service.address))).await;
    for head in [
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 64];
        let count = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut answer)).await.unwrap().unwrap();
        assert!(answer[..count].starts_with(b"HTTP/1.1 400"), "{head:?}: {}", String::from_utf8_lossy(&answer[..count]));
    }
    assert_eq!(service.asked.load(Ordering::SeqCst), 0);
    // Of two lengths hyper leaves the chunked one: what is behind it is another request, and nobody's body.
    for (first, second) in
        [("Transfer-Encoding: chunked", "Content-Length: 4"), ("Content-Length: 4", "Transfer-Encoding: chunked")]
    {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        let head = format!("POST /a HTTP/1.1\r\nHost: a\r\n{first}\r\n{second}\r\nConnection: close\r\n\r\n");
        let smuggled = format!("{head}3\r\nabc\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n");
        stream.write_all(smuggled.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        let (_, told) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            told.contains(r#""body":"abc""#) && told.contains("transfer-encoding") && !told.contains("content-length"),
            "{answer}"
        );
        assert!(!answer.contains("hidden"), "{answer}");
    }
}

#[tokio::test]
async fn a_kept_connection_that_the_service_closed_costs_no_request() {
    let service = service(|request: Request<Incoming>| async move {
        let mut answer = echo(request).await;
        answer.headers_mut().insert("x-kept", "1".parse().unwrap());
        answer
    })
    .await;
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let between = socket.local_addr().unwrap();
    let address = service.address;
    let mut tasks = JoinSet::new();
    let closed = Arc::new(tokio::sync::Semaphore::new(0));
    let closes = Arc::clone(&closed);
    // Closes each connection soon after its first answer.
    tasks.spawn(async move {
        loop {
            let (mut client, _) = socket.accept().await.unwrap();
            let mut server = TcpStream::connect(address).await.unwrap();
            let copied = tokio::io::copy_bidirectional(&mut client, &mut server);
            drop(tokio::time::timeout(Duration::from_millis(150), copied).await);
            drop((client, server));
            closes.add_permits(1);
        }
    });
    let proxy = proxied(config(&format!("http://{between}"))).await;
    for _ in 0..5 {
        assert_eq!(get(&proxy, "/", &[]).await.0, StatusCode::OK);
        closed.acquire().await.unwrap().forget();
    }
    assert_eq!(proxy.records(5).await.len(), 5);
}
