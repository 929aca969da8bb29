//! What becomes of requests that can't be recorded: counted or refused, and never neither.

use edgetrail_settings::{Size, Span};

use super::*;
use crate::sources::proxy::config::WhenUnavailable;

/// Below what the configuration allows: room for some eight requests.
const QUEUE: Size = Size(16 * 1024);

/// The count that gaps add up to.
fn missing(records: &[Value]) -> u64 {
    let gaps = records.iter().filter(|record| record["eventName"] == "ReportGap");
    gaps.map(|gap| gap["requestParameters"]["count"].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn open_passes_everything_on_and_gaps_say_exactly_what_has_no_record() {
    const REQUESTS: u64 = 40;
    let service = service(echo).await;
    let settings = config(&format!("http://{}", service.address));
    let title = settings.title();
    let proxy = proxied_with(settings, QUEUE).await;
    proxy.is_open.store(false, Ordering::SeqCst);
    proxy.has_room.store(false, Ordering::SeqCst);
    for _ in 0..REQUESTS {
        assert_eq!(get(&proxy, "/", &[]).await.0, StatusCode::OK);
    }
    assert_eq!(service.asked.load(Ordering::SeqCst) as u64, REQUESTS);
    // A gap goes through on the buffer's reserve.
    let gap = proxy.records(1).await.remove(0);
    assert_eq!((&gap["eventName"], &gap["requestParameters"]["cause"]), (&"ReportGap".into(), &"source-overflow".into()));
    assert_eq!(gap["requestParameters"]["exact"], true);
    let said = proxy.standing.text().unwrap();
    assert!(said.contains(&title) && said.contains("without a record"), "{said}");
    proxy.is_open.store(true, Ordering::SeqCst);
    proxy.has_room.store(true, Ordering::SeqCst);
    let mut records = Vec::new();
    for _ in 0..1000 {
        records = proxy.records.lock().unwrap().clone();
        let whole = records.iter().filter(|record| record["eventName"] == "GetResource").count() as u64;
        if whole + missing(&records) == REQUESTS {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let whole = records.iter().filter(|record| record["eventName"] == "GetResource").count() as u64;
    assert_eq!(whole + missing(&records), REQUESTS, "{records:#?}");
    assert!(whole > 0, "those with a place are recorded when there is room again");
    let mut ids: Vec<_> = records.iter().map(|record| record["eventID"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), records.len());
    // And then it is over.
    get(&proxy, "/", &[]).await;
    for _ in 0..500 {
        if proxy.standing.text().is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", proxy.standing.text());
}

#[tokio::test]
async fn closed_lets_nothing_reach_the_service_that_can_t_be_recorded() {
    let service = service(echo).await;
    let settings = Config { when_unavailable: WhenUnavailable::Closed, ..config(&format!("http://{}", service.address)) };
    let proxy = proxied_with(settings, QUEUE).await;
    proxy.has_room.store(false, Ordering::SeqCst);
    let (status, headers, _) = get(&proxy, "/", &[]).await;
    assert_eq!((status, headers["retry-after"].as_bytes()), (StatusCode::SERVICE_UNAVAILABLE, &b"5"[..]));
    assert_eq!(service.asked.load(Ordering::SeqCst), 0);
    // The buffer is full, and the proxy does not know yet: what was passed on keeps its place.
    proxy.has_room.store(true, Ordering::SeqCst);
    proxy.is_open.store(false, Ordering::SeqCst);
    let mut passed = 0;
    for _ in 0..30 {
        passed += usize::from(get(&proxy, "/", &[]).await.0 == StatusCode::OK);
    }
    assert!((1..30).contains(&passed), "{passed}");
    assert_eq!(service.asked.load(Ordering::SeqCst), passed);
    proxy.is_open.store(true, Ordering::SeqCst);
    let records = proxy.records(passed).await;
    assert_eq!((records.len(), missing(&records)), (passed, 0));
    assert_eq!(get(&proxy, "/", &[]).await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_answer_is_held_until_its_record_is_durable() {
    for answer_after in [AnswerAfter::Commit, AnswerAfter::Receipt] {
        let service = service(echo).await;
        let hold_max = Span(Duration::from_secs(30));
        let proxy = proxied(Config { answer_after, hold_max, ..config(&format!("http://{}", service.address)) }).await;
        proxy.is_open.store(false, Ordering::SeqCst);
        let asking = ask(Request::get(proxy.url("/")).body(full("")).unwrap(), false);
        let mut asking = std::pin::pin!(asking);
        assert!(tokio::time::timeout(Duration::from_millis(700), &mut asking).await.is_err());
        assert_eq!(service.asked.load(Ordering::SeqCst), 1);
        proxy.is_open.store(true, Ordering::SeqCst);
        assert_eq!(asking.await.0, StatusCode::OK);
        assert_eq!(proxy.records(1).await.len(), 1);
    }
}

#[tokio::test]
async fn an_answer_that_is_held_too_long_is_passed_on_or_held_back_as_configured() {
    for (when_unavailable, expected) in
        [(WhenUnavailable::Open, StatusCode::OK), (WhenUnavailable::Closed, StatusCode::SERVICE_UNAVAILABLE)]
    {
        let service = service(echo).await;
        let settings = Config {
            answer_after: AnswerAfter::Commit,
            hold_max: Span(Duration::from_millis(200)),
            when_unavailable,
            ..config(&format!("http://{}", service.address))
        };
        let proxy = proxied(settings).await;
        proxy.is_open.store(false, Ordering::SeqCst);
        let (status, headers, _) = get(&proxy, "/", &[]).await;
        // The service has acted: it is not said that one may simply repeat.
        assert_eq!((status, headers.get("retry-after")), (expected, None));
        proxy.is_open.store(true, Ordering::SeqCst);
        assert_eq!(proxy.record().await["responseElements"]["status"], 200);
    }
}

#[tokio::test]
async fn what_could_not_be_kept_until_the_stop_is_a_gap() {
    let service = service(echo).await;
    let proxy = proxied(config(&format!("http://{}", service.address))).await;
    proxy.is_open.store(false, Ordering::SeqCst);
    for _ in 0..3 {
        get(&proxy, "/", &[]).await;
    }
    let records = proxy.end().await;
    assert_eq!((records.len(), missing(&records)), (1, 3), "{records:#?}");
}

#[tokio::test]
async fn a_proxy_whose_port_is_taken_says_so_and_begins_when_it_is_free() {
    let service = service(echo).await;
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let settings = Config { listen: vec![address], ..config(&format!("http://{}", service.address)) };
    let (intake, _outlet) = observation::intake();
    let (stop, standing) = (CancellationToken::new(), Standing::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(run_all(vec![settings], Arc::new(|| true), standing.clone(), intake, stop.clone()));
    let said = async {
        while standing.text().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), said).await.expect("a taken port is said");
    assert!(standing.text().unwrap().contains("takes no requests"));
    drop(holder);
    let asked = async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asked).await.unwrap();
    assert_eq!(standing.text(), None);
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap();
}
