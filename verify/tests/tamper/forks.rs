//! `edgetrail-verify fork`: evidence proves what it shows and nothing else.

use edgetrail_proto::chain::{BatchKind, Hash, Header, Open};
use edgetrail_proto::evidence::{EVIDENCE_VERSION, Evidence, EvidenceBatch, EvidenceOpen};
use edgetrail_proto::identity::{AgentId, StreamId};
use edgetrail_proto::proof::{Proof, ProofStream};
use edgetrail_verify::fork::check;
use edgetrail_verify::gzip::unpack;

use super::published::stolen;
use super::trail::{Hooks, Trail};

fn proof(trail: &Trail, window: usize) -> Proof {
    Proof::from_json(&unpack(&trail.objects[&trail.proofs[window]].0).unwrap().bytes).unwrap()
}

fn open(stated: &ProofStream) -> EvidenceOpen {
    let ProofStream { open, binding, signature, certificate_chain, .. } = stated.clone();
    EvidenceOpen { open, binding, signature, certificate_chain }
}

fn batch(proof: &Proof) -> EvidenceBatch {
    let of = &proof.batches[0];
    EvidenceBatch { header: of.header.clone(), seal: of.seal.clone(), t_received: of.t_received, records: None }
}

/// A clone of the state behind batch 1 has sealed another batch 2.
fn race() -> (Evidence, Vec<Vec<u8>>) {
    let trail = Trail::whole();
    let (common, first) = (proof(&trail, 1), proof(&trail, 2));
    let mut header = Header::decode(&first.batches[0].header.0).unwrap();
    header.boot_id = [0xcc; 16];
    let later = EvidenceBatch {
        header: header.encode().to_vec().into(),
        seal: stolen(2).seal(&header.hash()).0.to_vec().into(),
        t_received: 0,
        records: None,
    };
    let evidence = Evidence {
        version: EVIDENCE_VERSION.to_owned(),
        agent_id: AgentId::from_bytes([9; 16]).to_string(),
        t_seen: super::T0,
        opens: vec![open(&first.streams[0])],
        common: Some(batch(&common)),
        committed: vec![batch(&first)],
        later: vec![later],
        receipts: first.receipts.clone(),
        receipt_keys: first.receipt_keys.clone(),
    };
    (evidence, trail.keys.roots)
}

#[test]
fn two_batches_under_one_key_prove_a_fork() {
    let (evidence, roots) = race();
    let steps = check(&evidence, &roots);
    assert!(steps.hold(), "{steps}");
    assert!(steps.to_string().contains("PROVEN"));
    assert_eq!(Evidence::from_json(&evidence.to_json()).unwrap(), evidence);
}

/// What is done to the evidence of a race.
type Spoil = fn(&mut Evidence);

#[test]
fn what_does_not_show_two_parties_proves_nothing() {
    let spoilt: [(&str, Spoil); 8] = [
        ("the same batch twice", |it| it.later.clone_from(&it.committed)),
        ("a branch without its seal", |it| it.later[0].seal.0[3] ^= 1),
        ("a seal by another key", |it| {
            let header = Header::decode(&it.later[0].header.0).unwrap();
            it.later[0].seal.0 = stolen(5).seal(&header.hash()).0.to_vec();
        }),
        ("another agent's open", |it| it.agent_id = AgentId::from_bytes([8; 16]).to_string()),
        ("no open", |it| it.opens.clear()),
        ("an open that nobody signed", |it| it.opens[0].signature.0[20] ^= 1),
        ("no batch before the fork", |it| it.common = None),
        ("records that are not the batch's", |it| it.committed[0].records = Some(vec![b"{}".to_vec().into()])),
    ];
    for (what, spoil) in spoilt {
        let (mut evidence, roots) = race();
        spoil(&mut evidence);
        let steps = check(&evidence, &roots);
        assert!(!steps.hold(), "{what}: {steps}");
    }
    let (evidence, _) = race();
    let others = Trail::whole().keys.roots;
    assert!(!check(&evidence, &others).hold(), "a CA that did not vouch");
}

/// The open of a successor of stream 1, by an agent that gave it this id.
fn successor(id: u8) -> (EvidenceOpen, Vec<Vec<u8>>) {
    let trail = Trail::with(&Hooks {
        successor_in: Some(3),
        open: Box::new(move |open| {
            if open.predecessor.is_some() {
                open.stream = StreamId::from_bytes([id; 16]);
            }
        }),
        ..Hooks::default()
    });
    (open(&proof(&trail, 3).streams[0]), trail.keys.roots)
}

#[test]
fn two_successors_of_one_stream_prove_a_fork() {
    let ((one, mut roots), (other, more)) = (successor(3), successor(4));
    roots.extend(more);
    let of = |opens| Evidence { opens, common: None, committed: Vec::new(), later: Vec::new(), receipts: Vec::new(), ..race().0 };
    let steps = check(&of(vec![one.clone(), other]), &roots);
    assert!(steps.hold(), "{steps}");
    for alone in [vec![one.clone()], vec![one.clone(), one]] {
        assert!(!check(&of(alone), &roots).hold(), "one stream is not two successors");
    }
}

/// Stream 1 ended at batch 2 for the agent that opened the next; another that holds its state goes on sealing in it, `late`
/// nanoseconds after that open and a second before.
fn shown_by_two(late: u64) -> (Evidence, Vec<Vec<u8>>) {
    let trail = Trail::with(&Hooks { successor_in: Some(3), ..Hooks::default() });
    let (common, next) = (proof(&trail, 2), proof(&trail, 3));
    let of_next = |stated: &&ProofStream| Open::decode(&stated.open.0).unwrap().predecessor.is_some();
    let next = next.streams.iter().find(of_next).unwrap();
    let t_opened = Open::decode(&next.open.0).unwrap().t_opened;
    let mut before = Header::decode(&common.batches[0].header.0).unwrap();
    let mut later = Vec::new();
    for (k, t_sealed) in [(3, t_opened - 1_000_000_000), (4, t_opened + late)] {
        let next_key = stolen(k + 1).public_key();
        let kind = BatchKind::Heartbeat;
        let first_seq = before.first_seq + u64::from(before.count);
        let header = Header {
            k,
            kind,
            first_seq,
            count: 0,
            root: Hash::of(b""),
            previous: before.hash(),
            next_key,
            t_sealed,
            t_min: 0,
            t_max: 0,
            ..before.clone()
        };
        let seal = stolen(k).seal(&header.hash()).0.to_vec().into();
        later.push(EvidenceBatch { header: header.encode().to_vec().into(), seal, t_received: 0, records: None });
        before = header;
    }
    let opens = vec![open(&common.streams[0]), open(next)];
    let (committed, common, t_seen) = (Vec::new(), Some(batch(&common)), super::T0);
    let (receipts, receipt_keys) = (Vec::new(), Vec::new());
    let (version, agent_id) = (EVIDENCE_VERSION.to_owned(), AgentId::from_bytes([9; 16]).to_string());
    (Evidence { version, agent_id, t_seen, opens, common, committed, later, receipts, receipt_keys }, trail.keys.roots)
}

#[test]
fn a_party_that_goes_on_sealing_behind_the_others_open_proves_a_fork() {
    let (evidence, roots) = shown_by_two(1);
    let steps = check(&evidence, &roots);
    assert!(steps.hold() && steps.to_string().contains("PROVEN: batch 4"), "what it sealed before is tail: {steps}");
}

#[test]
fn what_anybody_could_have_sealed_behind_an_open_proves_nothing() {
    let (evidence, roots) = shown_by_two(0);
    assert!(!check(&evidence, &roots).hold(), "sealed before the open, all of it is tail");
    let spoilt: [(&str, Spoil); 4] = [
        ("a batch without the one before", |it| drop(it.later.remove(0))),
        ("no batch that both have", |it| it.common = None),
        ("no open behind the stream", |it| drop(it.opens.pop())),
        ("a branch that vouches for itself", |it| {
            let mut first = Header::decode(&it.later[0].header.0).unwrap();
            first.next_key = stolen(9).public_key();
            let mut second = Header::decode(&it.later[1].header.0).unwrap();
            second.previous = first.hash();
            it.later[0].header = first.encode().to_vec().into();
            it.later[1].header = second.encode().to_vec().into();
            it.later[0].seal = stolen(8).seal(&first.hash()).0.to_vec().into();
            it.later[1].seal = stolen(9).seal(&second.hash()).0.to_vec().into();
        }),
    ];
    for (what, spoil) in spoilt {
        let (mut evidence, roots) = shown_by_two(1);
        spoil(&mut evidence);
        let steps = check(&evidence, &roots);
        assert!(!steps.hold(), "{what}: {steps}");
    }
}
