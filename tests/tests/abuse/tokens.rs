//! 9: tokens that are used again, guessed, redeemed at once by many, late, or for an agent of somebody else.

use std::time::{Duration, Instant};

use edgetrail_link::tls;
use edgetrail_link::uplink::{Endpoint, channel};
use edgetrail_link::wire::JoinRequest;
use edgetrail_link::wire::enrollment_client::EnrollmentClient;
use edgetrail_tests::deployment::Deployment;
use rcgen::{CertificateParams, KeyPair};
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Channel;

use crate::abused::Abused;
use crate::rogue::{Token, block_on, token};

/// Guesses in the short tier. Source of the figure of a million: at the rate that is left, they take two months.
const GUESSES: u32 = 3000;

async fn door(deployment: &Deployment, token: &Token) -> EnrollmentClient<Channel> {
    let tls = tls::pinned_client_config(token.pin.parse().unwrap()).unwrap();
    let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: deployment.api_port() };
    EnrollmentClient::new(channel(&endpoint, tls).await.unwrap())
}

fn request(csr: &[u8], agent: [u8; 16], token: &str) -> JoinRequest {
    let (host, version) = ("guesser".to_owned(), "1".to_owned());
    JoinRequest { token: token.to_owned(), csr: csr.to_vec().into(), agent_id: agent.to_vec().into(), host, version }
}

fn csr() -> Vec<u8> {
    CertificateParams::default().serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

#[test]
fn t09_a_token_is_good_as_often_as_it_says_and_guessing_is_slow() {
    let abused = Abused::start();
    let deployment = &abused.deployment;
    abused.withstands(|| {
        let (five, late) = (token(deployment, &["--uses", "5"]), token(deployment, &["--ttl", "1s"]));
        let foreign = token(deployment, &["--account", "999999999999"]);
        block_on(async {
            let (csr, door) = (csr(), door(deployment, &five).await);
            let issued = Instant::now();
            // Five win, whoever comes at once.
            let mut joins = JoinSet::new();
            for number in 0..12u8 {
                let (mut door, request) = (door.clone(), request(&csr, [number + 1; 16], &five.text));
                joins.spawn(async move { (number, door.join(request).await.map(drop).map_err(|status| status.code())) });
            }
            // In the order of the answers, not of the asking.
            let (askers, answers): (Vec<u8>, Vec<Result<(), Code>>) = joins.join_all().await.into_iter().unzip();
            assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 5, "{answers:?}");
            assert!(answers.iter().all(|answer| matches!(answer, Ok(()) | Err(Code::PermissionDenied))), "{answers:?}");

            let mut door = door;
            let taken = askers[answers.iter().position(Result::is_ok).unwrap()];
            let answer = door.join(request(&csr, [taken + 1; 16], &foreign.text)).await;
            // Those twelve may have used the address's allowance up; either way nobody's agent is taken over.
            assert!(matches!(answer.unwrap_err().code(), Code::PermissionDenied | Code::ResourceExhausted));
            tokio::time::sleep(Duration::from_millis(1100).saturating_sub(issued.elapsed())).await;
            assert!(door.join(request(&csr, [50; 16], &late.text)).await.is_err(), "expired");

            // Guessing with a known id: every attempt would cost a hash.
            let (id, began) = (five.text.rsplit_once('-').unwrap().0.to_owned(), Instant::now());
            let mut limited = 0;
            for number in 0..GUESSES {
                let guess = format!("{id}-{number:032}");
                let code = door.join(request(&csr, [60; 16], &guess)).await.map(drop).unwrap_err().code();
                limited += u32::from(code == Code::ResourceExhausted);
            }
            eprintln!("{GUESSES} guesses in {:?}, {limited} of them refused for their rate", began.elapsed());
            let looked_at = GUESSES - limited;
            let allowed = 10 + u32::try_from(began.elapsed().as_secs()).unwrap() / 6 + 1;
            assert!(looked_at <= allowed, "{looked_at} were looked at");
        });
    });
    let logged = deployment.collector_printed().matches("enrollment refused").count();
    assert!(logged < 100, "a guesser fills no log: {logged} lines");
}
