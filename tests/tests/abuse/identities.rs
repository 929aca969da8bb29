//! 1, 6, 7: another's name, another's batches, one's own batches again, one identity twice.

use edgetrail_link::wire::{self, RefusalReason, from_agent, from_collector};
use edgetrail_proto::identity::AgentId;
use edgetrail_tests::delivered;
use edgetrail_tests::wait;
use std::time::Duration;

use crate::abused::Abused;
use crate::rogue::{Rogue, block_on, record};

fn delivered_times(abused: &Abused, name: &str) -> usize {
    delivered::records(&abused.deployment.trail()).iter().filter(|(_, record)| record["eventName"] == name).count()
}

fn wait_delivered(abused: &Abused, name: &str) {
    wait::until(name, Duration::from_secs(30), || (delivered_times(abused, name) >= 1).then_some(()));
}

/// What an event source may be emitted by whom is not restricted: nothing to refuse.
#[test]
fn t01_an_agent_speaks_for_nobody_else() {
    let abused = Abused::start();
    abused.withstands(|| {
        block_on(async {
            let (rogue, victim) = (Rogue::join(&abused.deployment).await, Rogue::join(&abused.deployment).await);
            let mut theirs = victim.stream();
            victim.opened(&theirs).await.batch(theirs.batch(&["VictimWrote"])).await;
            for foreign in [rogue.stream_as(victim.agent(), "111122223333"), rogue.stream_as(rogue.agent(), "999999999999")] {
                let mut conversation = rogue.resumed().await;
                conversation.say(from_agent::Message::Opening(foreign.opening)).await;
                conversation.refused(RefusalReason::Identity).await;
            }
            let mut conversation = rogue.resumed().await;
            conversation.say(from_agent::Message::Opening(theirs.opening.clone())).await;
            conversation.refused(RefusalReason::Identity).await;
            let mut conversation = rogue.resumed().await;
            conversation.batch(theirs.batch(&["ForgedForVictim"])).await;
            conversation.refused(RefusalReason::Identity).await;
            // What a sealed batch says inside is never refused: it is evidence, and in no log file.
            let mut own = rogue.stream();
            let mut conversation = rogue.opened(&own).await;
            conversation.batch(own.batch_of(&[record("999999999999", "OtherAccount"), record("111122223333", "OwnWork")])).await;
            conversation.receipted().await;
        });
        wait_delivered(&abused, "OwnWork");
        assert_eq!(delivered_times(&abused, "ForgedForVictim") + delivered_times(&abused, "OtherAccount"), 0);
    });
    let printed = abused.deployment.collector_printed();
    assert!(printed.contains("quarantined") && printed.contains("session refused"), "{printed}");
}

#[test]
fn t06_replayed_swapped_skipped_and_forked_batches_get_nowhere() {
    let abused = Abused::start();
    abused.withstands(|| {
        block_on(async {
            let rogue = Rogue::join(&abused.deployment).await;
            let mut stream = rogue.stream();
            let mut conversation = rogue.opened(&stream).await;
            let batches: Vec<_> = (0..4).map(|_| stream.batch(&["Once"])).collect();
            let mut fork = stream.clone();
            for batch in &batches[..2] {
                conversation.batch(batch.clone()).await;
                conversation.receipted().await;
            }
            for _ in 0..50 {
                conversation.batch(batches[0].clone()).await;
                conversation.receipted().await;
            }
            // Skipped: the collector says where it stands.
            conversation.batch(batches[3].clone()).await;
            assert!(matches!(conversation.hear().await, Some(from_collector::Message::Expect(_))));
            // Swapped: a body under another header.
            let mut swapped = batches[2].clone();
            swapped.header = batches[3].header.clone();
            let mut conversation = rogue.resumed().await;
            conversation.batch(swapped).await;
            assert!(matches!(
                conversation.hear().await,
                Some(from_collector::Message::Expect(_) | from_collector::Message::Refusal(_))
            ));
            let mut touched = batches[2].clone();
            touched.seal = vec![0; 64].into();
            let mut conversation = rogue.resumed().await;
            conversation.batch(touched).await;
            conversation.refused(RefusalReason::Chain).await;
            // The same k with other content, sealed by the stream's own key: two parties hold it.
            let mut conversation = rogue.resumed().await;
            for batch in &batches[2..] {
                conversation.batch(batch.clone()).await;
                conversation.receipted().await;
            }
            let other = stream.batch(&["Branch"]);
            conversation.batch(fork.batch(&["OtherBranch", "OtherBranch"])).await;
            conversation.receipted().await;
            conversation.batch(other).await;
            conversation.refused(RefusalReason::Fork).await;
            // Frozen: nothing more of it is taken, until it joins again.
            let mut conversation = rogue.attach().await.unwrap();
            conversation.say(from_agent::Message::Resume(wire::Resume::default())).await;
            conversation.refused(RefusalReason::Fork).await;
        });
    });
    wait_delivered(&abused, "OtherBranch");
    assert_eq!(delivered_times(&abused, "Once") % 4, 0, "each batch once");
    assert_eq!(delivered_times(&abused, "Branch"), 0);
}

/// Restored snapshots and clones of whole state directories under the real agent are tests of their own.
#[test]
fn t07_one_identity_in_two_hands_is_fenced_and_then_frozen() {
    let abused = Abused::start();
    abused.withstands(|| {
        block_on(async {
            let rogue = Rogue::join(&abused.deployment).await;
            let mut stream = rogue.stream();
            let mut first = rogue.opened(&stream).await;
            first.batch(stream.batch(&["BeforeClone"])).await;
            first.receipted().await;
            let mut clone = stream.clone();
            // The newer connection ends the older; nothing more of that is read.
            let mut second = rogue.resumed().await;
            assert!(first.hear().await.is_none());
            second.batch(clone.batch(&["CloneWrote"])).await;
            second.receipted().await;
            let mut first = rogue.resumed().await;
            first.batch(stream.batch(&["OriginalWrote"])).await;
            first.refused(RefusalReason::Fork).await;
            assert_ne!(rogue.agent(), AgentId::from_bytes([0; 16]));
        });
    });
    assert!(abused.deployment.collector_printed().contains("session refused"));
}
