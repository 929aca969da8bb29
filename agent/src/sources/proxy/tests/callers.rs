//! Who asked: certificates, tokens and headers, believed only where they are proven.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::*;
use crate::sources::proxy::config::ClientCertificates;

/// A certificate authority in a directory.
struct Authority {
    dir: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    root: rustls_pki_types::CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test CA");
        let root = params.self_signed(&key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), root.pem()).unwrap();
        let root = root.der().clone();
        Self { dir, issuer: Issuer::new(params, key), root }
    }

    fn leaf(&self, name: &str, uri: Option<&str>) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names.extend(uri.map(|uri| SanType::URI(uri.try_into().unwrap())));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A section with TLS.
    fn settings(&self, upstream: SocketAddr) -> Config {
        let (certificate, key) = self.leaf("localhost", None);
        let path = |name: &str| self.dir.path().join(name);
        std::fs::write(path("proxy.pem"), certificate.pem()).unwrap();
        std::fs::write(path("proxy.key"), key.serialize_pem()).unwrap();
        Config {
            certificate: Some(path("proxy.pem")),
            key: Some(path("proxy.key")),
            client_ca: Some(path("ca.pem")),
            ..config(&format!("http://{upstream}"))
        }
    }

    /// The status that a request over TLS has; `None` where there is no handshake.
    async fn ask(&self, proxy: SocketAddr, client: Option<(rcgen::Certificate, KeyPair)>, is_h2: bool) -> Option<StatusCode> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let builder = rustls::ClientConfig::builder().with_root_certificates(roots);
        let mut tls = match client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
        };
        tls.alpn_protocols = vec![if is_h2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let stream = TcpStream::connect(proxy).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TokioIo::new(TlsConnector::from(Arc::new(tls)).connect(name, stream).await.ok()?);
        let mut tasks = JoinSet::new();
        let request = Request::get(if is_h2 { "https://localhost/orders" } else { "/orders" }).header("host", "localhost");
        let request = request.body(full("")).unwrap();
        let answer = if is_h2 {
            let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.ok()?;
            tasks.spawn(async { drop(connection.await) });
            sender.send_request(request).await.ok()?
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.ok()?;
            tasks.spawn(async { drop(connection.await) });
            sender.send_request(request).await.ok()?
        };
        Some(answer.status())
    }
}

#[tokio::test]
async fn a_client_s_certificate_names_the_caller_and_another_s_comes_to_nothing() {
    let service = service(echo).await;
    let authority = Authority::new();
    let settings = Config { identity: vec!["certificate".to_owned()], ..authority.settings(service.address) };
    let proxy = proxied(settings).await;
    for is_h2 in [false, true] {
        let shown = authority.leaf("billing", Some("spiffe://example/billing"));
        assert_eq!(authority.ask(proxy.address, Some(shown), is_h2).await, Some(StatusCode::OK));
    }
    let stranger = Authority::new().leaf("billing", None);
    assert_eq!(authority.ask(proxy.address, Some(stranger), false).await, None);
    assert_eq!(authority.ask(proxy.address, None, false).await, None);
    let records = proxy.records(2).await;
    assert_eq!((records.len(), service.asked.load(Ordering::SeqCst)), (2, 2));
    for record in &records {
        let identity = &record["userIdentity"];
        assert_eq!(
            (&identity["type"], &identity["userName"], &identity["principalId"]),
            (&"WebIdentityUser".into(), &"billing".into(), &"CN=billing".into())
        );
        let caller = &record["additionalEventData"]["edgetrail"]["caller"];
        assert_eq!((&caller["by"], &caller["verified"]), (&"certificate".into(), &true.into()));
        assert_eq!(caller["certificate"]["uris"], json!(["spiffe://example/billing"]));
        assert_eq!(record["tlsDetails"]["tlsVersion"], "TLSv1.3");
    }
}

#[tokio::test]
async fn an_optional_certificate_may_be_missing_and_names_by_its_uri_where_told_to() {
    let service = service(echo).await;
    let authority = Authority::new();
    let settings = Config {
        identity: vec!["certificate:uri".to_owned()],
        client_certificates: ClientCertificates::Optional,
        ..authority.settings(service.address)
    };
    let proxy = proxied(settings).await;
    assert_eq!(authority.ask(proxy.address, None, true).await, Some(StatusCode::OK));
    let shown = authority.leaf("billing", Some("spiffe://example/billing"));
    assert_eq!(authority.ask(proxy.address, Some(shown), true).await, Some(StatusCode::OK));
    let records = proxy.records(2).await;
    assert_eq!(records[0]["userIdentity"]["type"], "Unknown");
    assert_eq!(records[1]["userIdentity"]["userName"], "spiffe://example/billing");
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Keys of an issuer, and the set that says so.
struct IssuerKeys {
    dir: tempfile::TempDir,
    ed25519: Ed25519KeyPair,
    p256: EcdsaKeyPair,
}

impl IssuerKeys {
    fn new() -> Self {
        let random = ring::rand::SystemRandom::new();
        let ed25519 = Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&random).unwrap().as_ref()).unwrap();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let p256 = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let (x, y) = p256.public_key().as_ref()[1..].split_at(32);
        let set = json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": URL_SAFE_NO_PAD.encode(ed25519.public_key().as_ref())},
            {"kty": "EC", "crv": "P-256", "kid": "ec", "alg": "ES256", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)},
            {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"},
        ]});
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("jwks.json"), set.to_string()).unwrap();
        Self { dir, ed25519, p256 }
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = if header["alg"] == "ES256" {
            self.p256.sign(&ring::rand::SystemRandom::new(), signed.as_bytes()).unwrap().as_ref().to_vec()
        } else {
            self.ed25519.sign(signed.as_bytes()).as_ref().to_vec()
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

#[tokio::test]
async fn only_a_token_that_the_issuer_signed_names_the_caller() {
    let service = service(echo).await;
    let (keys, stranger) = (IssuerKeys::new(), IssuerKeys::new());
    let settings = Config {
        jwt_keys: Some(keys.dir.path().join("jwks.json")),
        jwt_issuer: Some("https://idp.example".to_owned()),
        jwt_audience: Some("orders".to_owned()),
        identity: vec!["jwt:email".to_owned()],
        ..config(&format!("http://{}", service.address))
    };
    let proxy = proxied(settings).await;
    let now = unix_seconds();
    let claims = json!({"sub": "u-7", "email": "alice@example.org", "iss": "https://idp.example", "aud": ["x", "orders"], "exp": now + 300});
    let with = |member: &str, value: Value| {
        let mut claims = claims.clone();
        claims[member] = value;
        claims
    };
    let good = keys.token(&json!({"alg": "EdDSA", "kid": "ed"}), &claims);
    let forged = {
        let parts: Vec<&str> = good.split('.').collect();
        format!("{}.{}.{}", parts[0], encode(&with("email", "root@example.org".into())), parts[2])
    };
    for (token, refused) in [
        (good.clone(), None),
        (good.clone(), None),
        (keys.token(&json!({"alg": "ES256", "kid": "ec"}), &claims), None),
        (keys.token(&json!({"alg": "ES256"}), &claims), None),
        (forged, Some("its signature is wrong")),
        (stranger.token(&json!({"alg": "EdDSA", "kid": "ed"}), &claims), Some("its signature is wrong")),
        (keys.token(&json!({"alg": "EdDSA", "kid": "other"}), &claims), Some("none of jwt_keys may sign it")),
        (keys.token(&json!({"alg": "HS256", "kid": "shared"}), &claims), Some("none of jwt_keys may sign it")),
        (format!("{}.{}.", encode(&json!({"alg": "none"})), encode(&claims)), Some("none of jwt_keys may sign it")),
        (keys.token(&json!({"alg": "EdDSA", "crit": ["x"]}), &claims), Some("it is no signed token")),
        (keys.token(&json!({"alg": "EdDSA"}), &with("exp", (now - 3600).into())), Some("it has expired")),
        (keys.token(&json!({"alg": "EdDSA"}), &with("exp", "soon".into())), Some("its exp is no time")),
        (keys.token(&json!({"alg": "EdDSA"}), &with("nbf", (now + 3600).into())), Some("it is not valid yet")),
        (keys.token(&json!({"alg": "EdDSA"}), &with("iss", "https://evil.example".into())), Some("it is of another issuer")),
        (keys.token(&json!({"alg": "EdDSA"}), &with("aud", "billing".into())), Some("it is for another audience")),
    ] {
        let before = proxy.records.lock().unwrap().len();
        // It is passed on whatever it is: the service decides.
        assert_eq!(get(&proxy, "/", &[("authorization", &format!("Bearer {token}"))]).await.0, StatusCode::OK);
        let record = proxy.records(before + 1).await.pop().unwrap();
        let (identity, caller) = (&record["userIdentity"], &record["additionalEventData"]["edgetrail"]["caller"]);
        match refused {
            None => {
                assert_eq!((&identity["userName"], &identity["principalId"]), (&"alice@example.org".into(), &"u-7".into()));
                assert_eq!((&identity["identityProvider"], &caller["verified"]), (&"https://idp.example".into(), &true.into()));
            }
            Some(reason) => {
                assert_eq!(identity["type"], "Unknown", "{reason}: {record:#}");
                assert_eq!((&caller["refused"]["reason"], &caller["refused"]["sub"]), (&reason.into(), &"u-7".into()));
            }
        }
        assert!(!record.to_string().contains(&token), "the token itself is not recorded");
    }
}

fn unix_seconds() -> u64 {
    crate::clock::unix_ns() / 1_000_000_000
}

#[tokio::test]
async fn without_keys_a_token_is_a_claim_and_the_record_says_so() {
    let service = service(echo).await;
    let proxy = proxied(config(&format!("http://{}", service.address))).await;
    let token = format!("Bearer {}.{}.x", encode(&json!({"alg": "EdDSA"})), encode(&json!({"sub": "alice"})));
    get(&proxy, "/", &[("authorization", &token)]).await;
    let record = proxy.record().await;
    assert_eq!(record["userIdentity"]["userName"], "alice");
    assert_eq!(record["additionalEventData"]["edgetrail"]["caller"], json!({"by": "jwt:sub", "verified": false}));
}

#[tokio::test]
async fn headers_and_addresses_count_from_trusted_proxies_alone() {
    let service = service(echo).await;
    let headers = [("x-user", "carol"), ("x-forwarded-for", "198.51.100.7")];
    let basic = format!("Basic {}", STANDARD.encode("dave:hunter2"));
    let settings = Config {
        identity: vec!["header:X-User".to_owned(), "basic".to_owned()],
        ..config(&format!("http://{}", service.address))
    };
    let untrusted = proxied(settings.clone()).await;
    get(&untrusted, "/", &headers).await;
    get(&untrusted, "/", &[headers[0], ("authorization", &basic)]).await;
    let records = untrusted.records(2).await;
    assert_eq!((&records[0]["userIdentity"]["type"], &records[0]["sourceIPAddress"]), (&"Unknown".into(), &"127.0.0.1".into()));
    assert_eq!(records[1]["userIdentity"]["userName"], "dave");
    assert_eq!(records[1]["additionalEventData"]["edgetrail"]["caller"], json!({"by": "basic", "verified": false}));
    assert!(!records[1].to_string().contains(basic.split_once(' ').unwrap().1));
    let trusted = proxied(Config { trusted_proxies: vec![Parsed("127.0.0.0/8".parse().unwrap())], ..settings }).await;
    get(&trusted, "/", &headers).await;
    let record = trusted.record().await;
    assert_eq!((&record["userIdentity"]["userName"], &record["sourceIPAddress"]), (&"carol".into(), &"198.51.100.7".into()));
    assert_eq!(record["additionalEventData"]["edgetrail"]["caller"]["peer"], "127.0.0.1");
}

/// Source: RFC 7515 appendix A.2.
#[test]
fn the_rfc_s_own_rsa_signature_is_right() {
    let set = json!({"keys": [{"kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}]});
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), set.to_string()).unwrap();
    let mut verifier = Verifier::open(file.path(), Demands::default());
    let at = |seconds: u64| seconds * 1_000_000_000;
    let mut proof =
        |token: &str, now| jwt::look_into(Some(&mut verifier), &format!("Bearer {token}"), now).map(|bearer| bearer.proof);
    assert_eq!(proof(token, at(1_300_819_379)), Some(jwt::Proof::Verified));
    assert_eq!(proof(token, at(1_300_819_999)), Some(jwt::Proof::Refused("it has expired")));
    // Cut anywhere it is another token, or none.
    for end in 0..token.len() {
        assert_ne!(proof(&token[..end], at(1)), Some(jwt::Proof::Verified), "{end}");
    }
}
