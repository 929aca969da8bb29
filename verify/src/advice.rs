//! What an auditor does next about a finding.

use crate::report::Check;

/// One sentence for each check: where to look, whom to ask.
pub const fn advice(check: Check) -> &'static str {
    use Check::*;
    match check {
        DigestFormat | DigestTrailing | DigestMoved | DigestSignature | LogFormat | LogTrailing | LogHash | LogTimes
        | ProofHash | ProofFormat => {
            "The object was written by somebody else than the collector: restore it from a version or backup of the bucket, and find who wrote it in the bucket's access log."
        }
        DigestKeyUnknown | DigestKeyNotValid => {
            "Fetch the keys again, for the whole time of the trail; a digest under a key that the collector does not know is forged."
        }
        PreviousHash | PreviousSignature => {
            "One of the two digests was replaced: compare both with the collector's own (edgetrail-collector keeps every digest it signed)."
        }
        DigestMissing | DigestGap | LogMissing | ProofMissing => {
            "Restore the object from the bucket's versions or backup; until then nothing can be said about its time."
        }
        ChainRestart => {
            "Ask for the StopLogging that should stand before it; without one, digests before it were removed or the collector was set up anew."
        }
        NoDigests => "Check --dir or --s3: this may not be the trail. If it is, all digests were deleted.",
        NewestStale | HeadStale => {
            "Ask whether the collector and the host run and reach each other; if they do, the newest objects were removed."
        }
        LogTwice | LogUnlisted | ProofUnlisted | RecordUnproven => {
            "Do not use what it says: nothing shows that a host sealed it."
        }
        ProofUnnamed => {
            "The digest is not Edgetrail's, or of a trail whose proofs were switched off: records of its window lead back to no host."
        }
        ProofWindow | LedgerOrder => "Compare with the collector's ledger: a window was left out or put in.",
        OpenFormat | OpenSignature | OpenCertificate | OpenBinding => {
            "The stream was not begun by the agent that it names: look for the certificate among those that the collector issued (agents list), and give all CA roots with --ca."
        }
        StreamChain | LeavesRoot | StreamPrevious => {
            "A batch was altered, exchanged or left out after it was sealed: compare with the collector's ledger and its evidence (edgetrail-collector evidence list)."
        }
        StreamStart => "Begin earlier with --from, or restore the proofs before this window.",
        StreamCounters => "The agent's own counts contradict each other: its program was tampered with or is faulty.",
        StreamTail | StreamUnclosed => {
            "The host was cut off between the two streams (crash, power cut, or somebody's hand): see its gaps and ReportRehomed at the beginning of the successor."
        }
        RangeLost => {
            "The relay that held them was declared lost (relay forget): keep its disk, what can be read of it is still accepted."
        }
        RangeUnreported | RecordMissing => {
            "Somebody left them out on purpose or the collector is faulty: compare with the collector's ledger."
        }
        ReceiptInvalid | ReceiptMissing => {
            "Check that the CA roots are complete; else the receipt was forged or removed by whoever wrote the proof."
        }
        StreamSilent => "Ask what the host did in that time: powered off, suspended, or its agent stopped. Nothing was captured.",
        SealTime => "Compare the host's clock with its ClockStep reports; without one, somebody back-dated records.",
        OpenTime => {
            "Compare the host's clock with its ClockStep reports, and with when its first batch was received: the host's clock was wrong, or somebody with an old key dated the stream so."
        }
        ReceiptUnknown => {
            "Have the proofs of all accounts and regions read together; if it stays, the agent has a receipt of another collector or made it up."
        }
        OpenExpired => "The host was off or cut off for longer than its certificate lives: usual after a long stop.",
        SealLate => "Usual after a crash; until the seal, the host's root could change these records.",
        Gap => "The report names cause and bound: see docs/verification.md for each cause.",
        Rehomed => "They count as sealed at the time of the new seal, not at their own.",
        Quarantined => "The agent sent records outside its binding or unreadable ones: see the collector's security events.",
        LogPending => "Verify again after the next digest.",
        RootsNotGiven => "Give the collector's CA with --ca.",
    }
}
