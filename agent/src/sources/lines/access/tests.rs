//! Lines as the servers' manuals show them.

use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_700_000_000_000_000_000;

fn read(line: &str) -> Request {
    parse(line, NOW).unwrap_or_else(|| panic!("not read: {line}"))
}

/// address, user, method, target, status, bytes, agent.
fn seven(line: &str) -> [String; 7] {
    let Request { address, user, method, target, status, bytes, agent, .. } = read(line);
    let number = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
    let [address, user, method, target, agent] = [address, user, method, target, agent].map(Option::unwrap_or_default);
    [address, user, method, target, number(status.map(u64::from)), number(bytes), agent]
}

#[test]
fn apache_and_nginx_are_read_in_all_their_usual_formats() {
    let frank = ["127.0.0.1", "frank", "GET", "/apache_pb.gif", "200", "2326"];
    let line = r#"127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326"#;
    assert_eq!(seven(line)[..6], frank);
    assert_eq!(seven(&format!(r#"{line} "http://www.example.com/start.html" "Mozilla/4.08 \"x\"""#))[6], "Mozilla/4.08 \"x\"");
    assert_eq!(seven(&format!("www.example.com:443 {line}"))[..6], frank);
    assert_eq!(read(&format!("www.example.com {line}")).host.as_deref(), Some("www.example.com"));
    assert_eq!(seven(&format!(r#"{line} "-" "curl/8" 512 1024"#))[6], "curl/8");
    let nginx = r#"2001:db8::7 - - [10/Oct/2000:13:55:36 +0000] "GET / HTTP/2.0" 304 0 "-" "a" "203.0.113.9, 10.0.0.1" rt=0.25 uct="0.01""#;
    let request = read(nginx);
    assert_eq!((request.address.as_deref(), request.duration_ms), (Some("2001:db8::7"), Some(250.0)));
    assert_eq!(request.forwarded.as_deref(), Some("203.0.113.9, 10.0.0.1"));
    let spaced = r#"203.0.113.9 - Ann Lee [10/Oct/2000:13:55:36 +0000] "POST /a?b=c HTTP/1.1" 201 1 "-" "-""#;
    assert_eq!(seven(spaced)[..4], ["203.0.113.9", "Ann Lee", "POST", "/a?b=c"]);
    let ingress = r#"10.0.0.1 - [10.0.0.1] - - [10/Oct/2000:13:55:36 +0000] "GET /x HTTP/1.1" 200 5 "-" "a" 300 0.004 [ns-svc-80] 10.2.0.7:8080 5 0.004 200 04f1619cfb5e02b6455c19b860427758"#;
    let request = read(ingress);
    assert_eq!((request.address.as_deref(), request.upstream.as_deref()), (Some("10.0.0.1"), Some("10.2.0.7:8080")));
    assert_eq!(
        (request.route.as_deref(), request.request_id.as_deref()),
        (Some("ns-svc-80"), Some("04f1619cfb5e02b6455c19b860427758"))
    );
    let named = r#"client.example.org - - [10/Oct/2000:13:55:36 +0000] "HEAD / HTTP/1.1" 200 -"#;
    assert_eq!(seven(named)[..6], ["client.example.org", "", "HEAD", "/", "200", ""]);
}

#[test]
fn what_is_no_request_is_kept_as_it_came() {
    let request = read(r#"1.2.3.4 - - [29/Jul/2023:10:26:06 -0700] "\x16\x03\x01\x00t" 400 157 "-" "-""#);
    assert_eq!((request.method, request.malformed.as_deref()), (None, Some(r"\x16\x03\x01\x00t")));
    let request = read(r#"1.2.3.4 - - [29/Jul/2023:10:26:06 -0700] "-" 408 - "-" "-""#);
    assert_eq!((request.malformed, request.status, request.bytes), (None, Some(408), None));
}

#[test]
fn traefik_writes_columns_or_json() {
    let line = r#"192.168.0.2 - bob [26/Jan/2018:10:15:00 +0000] "GET /api HTTP/1.1" 200 414 "-" "curl" 12 "api@docker" "http://172.17.0.3:80" 42ms"#;
    let request = read(line);
    assert_eq!(
        (request.server, request.route.as_deref(), request.duration_ms),
        (Some("traefik"), Some("api@docker"), Some(42.0))
    );
    let json = r#"{"ClientAddr":"10.0.0.9:5000","ClientHost":"10.0.0.9","ClientUsername":"bob","DownstreamContentSize":19,"DownstreamStatus":404,"Duration":250000,"RequestHost":"h","RequestMethod":"GET","RequestPath":"/x?y=1","RequestProtocol":"HTTP/1.1","RouterName":"r@file","StartUTC":"2020-10-10T10:10:10.5Z","request_User-Agent":"curl/7","request_X-User":"carol","level":"info","msg":"","time":"2020-10-10T10:10:10Z"}"#;
    assert_eq!(seven(json), ["10.0.0.9", "bob", "GET", "/x?y=1", "404", "19", "curl/7"]);
    let request = read(json);
    assert_eq!((request.duration_ms, request.headers.get("x-user").and_then(Value::as_str)), (Some(0.25), Some("carol")));
}

#[test]
fn caddy_writes_json() {
    let json = r#"{"level":"info","ts":1646861401.5241024,"logger":"http.log.access","msg":"handled request","request":{"remote_ip":"127.0.0.1","remote_port":"41342","client_ip":"192.0.2.1","proto":"HTTP/2.0","method":"GET","host":"localhost","uri":"/a?b=1","headers":{"User-Agent":["curl/7.82.0"],"Authorization":["REDACTED"]},"tls":{"resumed":false,"version":772,"client_common_name":"dave","client_serial":"7"}},"bytes_read":0,"user_id":"alice","duration":0.000929675,"size":10900,"status":200,"resp_headers":{}}"#;
    assert_eq!(seven(json), ["192.0.2.1", "alice", "GET", "/a?b=1", "200", "10900", "curl/7.82.0"]);
    let request = read(json);
    assert_eq!(
        (request.server, request.certificate.as_deref(), request.host.as_deref()),
        (Some("caddy"), Some("dave"), Some("localhost"))
    );
    assert_eq!(request.time, Some(1_646_861_401_524_102_400));
}

#[test]
fn envoy_writes_its_default_istios_or_json() {
    let line = r#"[2016-04-15T20:17:00.310Z] "POST /api/v1/locations HTTP/2" 204 - 154 0 226 100 "10.0.35.28" "nsq2http" "cc21d9b0-cf5c-432b-8c7e-98aeb7988cd2" "locations" "tcp://10.0.2.1:80""#;
    assert_eq!(seven(line), ["10.0.35.28", "", "POST", "/api/v1/locations", "204", "0", "nsq2http"]);
    assert_eq!(read(line).request_id.as_deref(), Some("cc21d9b0-cf5c-432b-8c7e-98aeb7988cd2"));
    let istio = r#"[2020-11-25T21:26:18.409Z] "GET /status/418 HTTP/1.1" 503 UF upstream_reset_before_response_started{connection_failure} - "delayed connect error: 111" 0 135 3 - "-" "curl/7.73.0" "84961386" "httpbin:8000" "127.0.0.1:80" inbound|8000|| 127.0.0.1:41854 10.44.1.27:80 10.44.1.23:37652 outbound_.8000 default"#;
    assert_eq!(seven(istio), ["10.44.1.23", "", "GET", "/status/418", "503", "135", "curl/7.73.0"]);
    let request = read(istio);
    assert_eq!((request.route.as_deref(), request.error.as_deref()), (Some("default"), Some("UF: delayed connect error: 111")));
    let json = r#"{"start_time":"2025-12-31T16:37:40.479Z","method":"GET","x-envoy-origin-path":"/admin","response_code":404,"user-agent":"zgrab","downstream_remote_address":"10.0.0.12:59292",":authority":"app.internal","bytes_sent":"7"}"#;
    assert_eq!(seven(json), ["10.0.0.12", "", "GET", "/admin", "404", "7", "zgrab"]);
    assert_eq!((read(json).server, read(json).host.as_deref()), (Some("envoy"), Some("app.internal")));
}

#[test]
fn haproxy_writes_its_own_formats() {
    let line = r#"10.0.1.2:33317 [06/Feb/2009:12:14:14.655] http-in~ static/srv1 10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 {1wt.eu|curl 8} {} "GET /index.html HTTP/1.1""#;
    assert_eq!(seven(line)[..6], ["10.0.1.2", "", "GET", "/index.html", "200", "2750"]);
    let request = read(line);
    assert_eq!(
        (request.route.as_deref(), request.upstream.as_deref(), request.duration_ms),
        (Some("http-in"), Some("static/srv1"), Some(109.0))
    );
    assert_eq!(request.extra["captured"], serde_json::json!(["1wt.eu", "curl 8"]));
    let bad = r#"10.0.1.2:33317 [06/Feb/2009:12:14:14.655] http-in http-in/<NOSRV> -1/-1/-1/-1/0 400 187 - - PR-- 2/2/0/0/0 0/0 "<BADREQ>""#;
    assert_eq!((read(bad).malformed.as_deref(), read(bad).error.as_deref()), (Some("<BADREQ>"), Some("termination state PR--")));
    let tcp = "10.0.1.2:33312 [06/Feb/2009:12:12:51.443] fnt bck/srv1 0/0/5007 212 -- 0/0/0/0/3 0/0";
    assert_eq!((read(tcp).status, read(tcp).bytes, read(tcp).error), (None, Some(212), None));
    let failed = "[::1]:33312 [06/Feb/2009:12:12:51.443] fnt/1: SSL handshake failure";
    assert_eq!((read(failed).address.as_deref(), read(failed).error.as_deref()), (Some("::1"), Some("SSL handshake failure")));
    let clf = r#"10.0.1.2 - - [09/Jul/2020:01:12:02 +0000] "GET / HTTP/1.1" 200 2750 "" "" 33317 655 "http-in" "static" "srv1" 10 0 30 69 109 ---- 1 1 1 1 0 0 0 "" """#;
    assert_eq!((read(clf).server, read(clf).upstream.as_deref()), (Some("haproxy"), Some("static/srv1")));
}

/// The lines of HAProxy's manual, chapter 8.8, and what its `hdr_encode_map` does to a header.
#[test]
fn haproxys_captured_headers_keep_their_places() {
    let some = |texts: &[&str]| -> Vec<Option<String>> {
        texts.iter().map(|text| (!text.is_empty()).then(|| (*text).to_owned())).collect()
    };
    for (request, response, expected, all) in [
        (
            "{fr.adserver.yahoo.co||http://fr.f416.mail.}",
            " {|864|private||}",
            &["fr.adserver.yahoo.co", "", "http://fr.f416.mail."][..],
            &["fr.adserver.yahoo.co", "http://fr.f416.mail.", "864", "private"][..],
        ),
        ("{w.ods.org||}", " {Formilux/0.1.8|3495|||}", &["w.ods.org", "", ""], &["w.ods.org", "Formilux/0.1.8", "3495"]),
        ("{||}", "", &["", "", ""], &[]),
        (
            "{alice|Mozilla/5.0 (X11; Linux) #22x#22|a#7Cb #23 #C3#A9#0A}",
            " {}",
            &["alice", "Mozilla/5.0 (X11; Linux) \"x\"", "a|b # é#0A"],
            &["alice", "Mozilla/5.0 (X11; Linux) \"x\"", "a|b # é#0A"],
        ),
        ("{#F|#zz|#FF}", "", &["#F", "#zz", "#FF"], &["#F", "#zz", "#FF"]),
    ] {
        let line = format!(
            "127.0.0.1:34014 [09/Aug/2004:20:26:09.123] proxy-out proxy-out/cache1 0/0/0/162/+162 200 +350 - - ---- 0/0/0/0/0 0/0 {request}{response} \"GET http://fr.adserver.yahoo.com/ HTTP/1.1\""
        );
        let read = read(&line);
        assert_eq!(read.captured, some(expected), "{line}");
        assert_eq!(
            (read.target.as_deref(), read.status, read.bytes),
            (Some("http://fr.adserver.yahoo.com/"), Some(200), Some(350))
        );
        let told = read.extra.get("captured").cloned().unwrap_or_else(|| serde_json::json!([]));
        assert_eq!(told, serde_json::json!(all), "{line}");
    }
    // Behind syslog's header, as HAProxy sends it.
    let request = read(
        "127.0.0.1:34028 [09/Aug/2004:20:30:46.500] proxy-out proxy-out/cache1 0/0/2/126/+128 301 +223 - - ---- 0/0/0/0/0 0/0 {www.sytadin.equipement.gouv.fr||http://trafic.1wt.eu/} {Apache|230|||http://www.sytadin.} \"GET http://www.sytadin.equipement.gouv.fr/ HTTP/1.1\"",
    );
    assert_eq!(
        (request.status, request.captured.len(), request.captured[2].as_deref()),
        (Some(301), 3, Some("http://trafic.1wt.eu/"))
    );
}

#[test]
fn error_logs_tell_of_requests_too() {
    let nginx = r#"2021/12/01 13:53:33 [error] 31#31: *46 open() "/x, client: y" failed (2: No such file or directory), client: 172.17.0.1, server: localhost, request: "GET /market/?a=, host: HTTP/1.1", host: "h", referrer: "http://r/""#;
    let request = read(nginx);
    assert_eq!(
        (request.method.as_deref(), request.host.as_deref(), request.referer.as_deref()),
        (Some("GET"), Some("h"), Some("http://r/"))
    );
    let apache = "[Thu Oct 13 12:24:49.880562 2022] [auth_basic:error] [pid 10:tid 1] [client 31.33.58.75:50229] AH01618: user sss not found: /x";
    let request = read(apache);
    assert_eq!(
        (request.address.as_deref(), request.user.as_deref(), request.is_refused_login()),
        (Some("31.33.58.75"), Some("sss"), true)
    );
    let own = "2021/12/01 13:53:33 [notice] 1#1: start worker processes";
    assert_eq!((read(own).address, read(own).error.as_deref()), (None, Some("start worker processes")));
}

#[test]
fn other_texts_are_no_access_log() {
    for line in [
        "",
        "hello",
        "{}",
        r#"{"msg":"x"}"#,
        "[",
        "[x] y",
        "1.2.3.4 - - [nonsense] \"GET /\" 200",
        "a [10/Oct/2000:13:55:36 -0700] b",
    ] {
        assert_eq!(parse(line, NOW), None, "{line}");
    }
}

proptest! {
    #[test]
    fn arbitrary_lines_never_panic(line in "\\PC{0,120}|[0-9./:\\[\\]\"{}A-Z a-z,-]{0,120}") {
        let _either = parse(&line, NOW);
    }
}
