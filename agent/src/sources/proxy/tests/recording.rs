//! Each request leaves one record that says what happened.

use edgetrail_settings::{Size, Span};

use super::*;
use crate::sources::lines::shape::RouteShape;

#[tokio::test]
async fn a_record_names_the_operation_and_tells_its_parameters_without_secrets() {
    let service = service(echo).await;
    let dir = tempfile::tempdir().unwrap();
    let document = dir.path().join("orders.yaml");
    std::fs::write(&document, openapi::tests::YAML).unwrap();
    let health = RouteShape {
        method: None,
        path: "/healthz".to_owned(),
        name: None,
        category: Some("Data".to_owned()),
        read_only: None,
        kind: None,
    };
    let reset = RouteShape {
        method: None,
        path: "/reset/{token}".to_owned(),
        name: Some("ResetPassword".to_owned()),
        category: None,
        read_only: None,
        kind: None,
    };
    let proxy = proxied(Config {
        openapi: Some(document),
        routes: vec![health, reset],
        headers: vec!["x-tenant".to_owned(), "x-api-key".to_owned()],
        response_bytes: Size(1024),
        ..config(&format!("http://{}", service.address))
    })
    .await;
    let request = Request::post(proxy.url("/v1/orders?limit=3&access_token=tok-123"))
        .header("host", "shop.example")
        .header("content-type", "application/json")
        .header("user-agent", "shop/7")
        .header("x-tenant", "acme")
        .header("x-api-key", "key-456")
        .header("authorization", "Bearer opaque-789")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .body(full(r#"{"item":"book","password":"hunter2","card":{"pin":1234}}"#))
        .unwrap();
    assert_eq!(ask(request, false).await.0, StatusCode::OK);
    let record = proxy.record().await;
    assert_eq!((&record["eventSource"], &record["eventName"]), (&"orders.example".into(), &"CreateOrder".into()));
    assert_eq!((&record["userAgent"], &record["sourceIPAddress"]), (&"shop/7".into(), &"127.0.0.1".into()));
    assert_eq!(
        (&record["readOnly"], &record["requestID"], &record["eventCategory"]),
        (&false.into(), &"r-1".into(), &"Management".into())
    );
    let parameters = &record["requestParameters"];
    assert_eq!((&parameters["route"], &parameters["operationId"]), (&"/orders".into(), &"createOrder".into()));
    assert_eq!((&parameters["query"]["limit"], &parameters["headers"]["x-tenant"]), (&"3".into(), &"acme".into()));
    assert_eq!((&parameters["body"]["item"], &parameters["bodyBytes"]), (&"book".into(), &56.into()));
    assert_eq!(record["responseElements"]["body"]["method"], "POST");
    assert_eq!(record["resources"][0]["ARN"], "arn:aws:http:dc-local-1:111122223333:shop.example/v1/orders");
    assert_eq!(record["additionalEventData"]["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(record["additionalEventData"]["edgetrail"]["source"], "proxy");
    assert_eq!(record["userIdentity"]["type"], "Unknown");
    let text = record.to_string();
    for secret in ["hunter2", "1234,", "tok-123", "key-456", "opaque-789"] {
        assert!(!text.contains(secret), "{secret} in {record:#}");
    }
    get(&proxy, "/healthz", &[]).await;
    get(&proxy, "/reset/s3cr3t-t0ken", &[]).await;
    get(&proxy, "/v1/orders/a%20b", &[]).await;
    get(&proxy, "/nowhere", &[]).await;
    let records = proxy.records(5).await;
    let names: Vec<_> = records.iter().map(|record| record["eventName"].as_str().unwrap()).collect();
    assert_eq!(names, ["CreateOrder", "GetHealthz", "ResetPassword", "GetOrder", "GetResource"]);
    assert_eq!((&records[1]["eventCategory"], &records[1]["managementEvent"]), (&"Data".into(), &false.into()));
    // What the service repeats in its answer is its own.
    let told = format!("{}{}", records[2]["requestParameters"], records[2]["resources"]);
    assert!(told.contains("HIDDEN") && !told.contains("s3cr3t"), "{told}");
    assert_eq!(records[3]["requestParameters"]["pathParameters"]["orderId"], "a b");
}

#[tokio::test]
async fn only_the_beginning_of_a_long_body_is_recorded_and_its_secrets_are_not() {
    let service = service(echo).await;
    let proxy = proxied(Config { body_bytes: Size(64), ..config(&format!("http://{}", service.address)) }).await;
    let body = format!(r#"{{"a":"b","password":"hunter2","note":"{}"}}"#, "x".repeat(1000));
    let length = body.len();
    let request = Request::post(proxy.url("/")).header("content-type", "application/json").body(full(body)).unwrap();
    ask(request, false).await;
    let record = proxy.record().await;
    let parameters = &record["requestParameters"];
    assert_eq!((&parameters["bodyBytes"], &parameters["bodyTruncated"]), (&length.into(), &true.into()));
    assert_eq!(parameters["body"], serde_json::json!({"a": "b", "password": "HIDDEN_DUE_TO_SECURITY_REASONS"}));
}

#[tokio::test]
async fn errors_of_the_service_are_the_record_s() {
    let service = service(|request: Request<Incoming>| async move {
        let status = request.uri().path().trim_start_matches('/').parse::<u16>().unwrap();
        Response::builder().status(status).body(full("")).unwrap()
    })
    .await;
    let proxy = proxied(config(&format!("http://{}", service.address))).await;
    for (status, code) in [
        (200, None),
        (302, None),
        (401, Some("AccessDenied")),
        (403, Some("AccessDenied")),
        (404, Some("NotFound")),
        (503, Some("ServiceUnavailable")),
    ] {
        let before = proxy.records.lock().unwrap().len();
        assert_eq!(get(&proxy, &format!("/{status}"), &[]).await.0.as_u16(), status);
        let record = proxy.records(before + 1).await.pop().unwrap();
        assert_eq!(record["errorCode"].as_str(), code, "{status}");
        assert_eq!(record["responseElements"]["status"], status);
    }
}

#[tokio::test]
async fn a_service_that_is_away_or_silent_is_answered_for_and_recorded() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = proxied(config(&format!("http://{free}"))).await;
    assert_eq!(get(&proxy, "/", &[]).await.0, StatusCode::BAD_GATEWAY);
    let record = proxy.record().await;
    assert_eq!((&record["errorCode"], &record["responseElements"]["answeredBy"]), (&"BadGateway".into(), &"proxy".into()));
    assert!(record["errorMessage"].as_str().unwrap().contains("can't be reached"), "{record:#}");

    let silent = service(|_| std::future::pending()).await;
    let timeout = Span(Duration::from_millis(200));
    let proxy = proxied(Config { response_timeout: timeout, ..config(&format!("http://{}", silent.address)) }).await;
    assert_eq!(get(&proxy, "/", &[]).await.0, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(proxy.record().await["errorCode"], "GatewayTimeout");
    // One that sends its request too slowly is told so itself.
    let (sender, body) = frames();
    sender.send(Frame::data(Bytes::from_static(b"begun"))).await.unwrap();
    let request = Request::post(proxy.url("/")).body(body.boxed()).unwrap();
    assert_eq!(ask(request, true).await.0, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(proxy.records(2).await[1]["errorCode"], "RequestTimeout");
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_a_record() {
    for scheme in ["http", "h2c"] {
        let silent = service(|_| std::future::pending()).await;
        let proxy = proxied(config(&format!("{scheme}://{}", silent.address))).await;
        for is_h2 in [false, true] {
            let asking = ask(Request::get(proxy.url("/slow")).body(full("")).unwrap(), is_h2);
            assert!(tokio::time::timeout(Duration::from_millis(200), asking).await.is_err());
        }
        for record in proxy.records(2).await {
            assert_eq!(
                (&record["errorCode"], &record["requestParameters"]["path"]),
                (&"ClientClosedRequest".into(), &"/slow".into())
            );
        }
        assert_eq!(silent.asked.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn a_unix_socket_is_a_service_too_and_a_stop_lets_requests_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let socket = tokio::net::UnixListener::bind(&path).unwrap();
    let mut tasks = JoinSet::new();
    let (arrived, may_answer) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (arrives, allowed) = (Arc::clone(&arrived), Arc::clone(&may_answer));
    tasks.spawn(async move {
        let (stream, _) = socket.accept().await.unwrap();
        let service = service_fn(move |request| {
            let (arrives, allowed) = (Arc::clone(&arrives), Arc::clone(&allowed));
            async move {
                arrives.notify_one();
                allowed.notified().await;
                Ok::<_, Infallible>(echo(request).await)
            }
        });
        drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
    });
    let proxy = proxied(config(&format!("unix:{}", path.display()))).await;
    let (request, stop) = (Request::get(proxy.url("/x")).body(full("")).unwrap(), proxy.stop.clone());
    let stopping = async {
        arrived.notified().await;
        stop.cancel();
        may_answer.notify_one();
    };
    let ((status, ..), ()) = tokio::join!(ask(request, false), stopping);
    assert_eq!(status, StatusCode::OK);
    assert_eq!(proxy.end().await.len(), 1);
}
