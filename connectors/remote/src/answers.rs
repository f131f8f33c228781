//! From an answer of the program to the contract's values: what cannot be true is refused, what may be personal is not passed on.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lethe_kit::{
    Ask, Error as Failure, FeedPage, Finding, Located, Manifest, Observation, Observed, Page, Performed,
    Receipt, Rejected,
};
use lethe_terms::{DatasetName, FailureClass, Observed as Seen, Outcome, Verb};

use crate::error::{Effect, wrong_answer};
use crate::message::{Answer, FindingMessage, ObservationMessage, RejectedMessage};
use crate::pages::Asked;
use crate::words::{self, Private};

/// Findings of one check.
const FINDINGS_MAX: usize = 64;
/// Details of one receipt.
const DETAILS_MAX: usize = 64;
/// When an accepted instruction is asked about again, in milliseconds: not so often that the question is the load, and once a day at least, so
/// that a deadline is not slept through.
const ASK_AFTER_MS: std::ops::RangeInclusive<u64> = 100..=86_400_000;

/// An answer of another kind than was asked for, or that the call failed.
pub(crate) fn failure(answer: &Answer, effect: Effect, private: &Private) -> Failure {
    let Answer::Failed { class, code } = answer else {
        return wrong_answer(effect, "an answer to another call than was made");
    };
    let reason = format!("the program says: {}", words::shown_code(code, private));
    match class {
        FailureClass::Final => Failure::Permanent {
            code: "remote-cannot",
            reason,
        },
        FailureClass::Unknown if effect != Effect::Reads => Failure::Unknown {
            code: "remote-cannot-tell",
            reason,
        },
        // A call that reads has no effect of which anybody could be in doubt.
        FailureClass::Retryable | FailureClass::Unknown => Failure::Transient {
            code: "remote-not-now",
            reason,
        },
    }
}

pub(crate) fn findings(messages: Vec<FindingMessage>) -> Result<Vec<Finding>, Failure> {
    let wrong = |message: &FindingMessage| {
        !words::is_line(&message.what) || !(message.detail.is_empty() || words::is_line(&message.detail))
    };
    if messages.len() > FINDINGS_MAX || messages.iter().any(wrong) {
        let reason =
            format!("expected at most {FINDINGS_MAX} findings of one line of at most 200 bytes each");
        return Err(wrong_answer(Effect::Reads, reason));
    }
    let finding = |message: FindingMessage| Finding {
        what: message.what,
        ok: message.ok,
        detail: message.detail,
    };
    Ok(messages.into_iter().map(finding).collect())
}

pub(crate) fn feed_page(
    manifest: &Manifest,
    asked: Option<&str>,
    answer: Answer,
    private: &Private,
) -> Result<FeedPage, Failure> {
    let Answer::Page {
        observations: seen,
        rejected,
        cursor,
        more,
        progress,
    } = answer
    else {
        return Err(failure(&answer, Effect::Reads, private));
    };
    if more && asked == Some(cursor.as_str()) {
        let reason = "there is more to read, at the cursor that was just read: the feed would never end";
        return Err(wrong_answer(Effect::Reads, reason));
    }
    Ok(FeedPage {
        observations: observations(manifest, seen)?,
        rejected: rejected
            .into_iter()
            .map(rejected_input)
            .collect::<Result<_, _>>()?,
        cursor,
        more,
        progress: progress.map(|progress| (progress.done.min(progress.total), progress.total)),
    })
}

pub(crate) fn located(
    manifest: &Manifest,
    asked: &Asked,
    answer: Answer,
    private: &Private,
) -> Result<Located, Failure> {
    let Answer::Located {
        observations: seen,
        next,
    } = answer
    else {
        return Err(failure(&answer, Effect::Reads, private));
    };
    let next = asked.next(next)?;
    if seen.iter().any(|record| record.gone) {
        return Err(wrong_answer(Effect::Reads, "a record is found and gone"));
    }
    let observations = observations(manifest, seen)?;
    Ok(Located { observations, next })
}

pub(crate) fn exported(
    asked: &Asked,
    answer: Answer,
    private: &Private,
) -> Result<(Vec<serde_json::Value>, Page), Failure> {
    let Answer::Exported { values, next } = answer else {
        return Err(failure(&answer, Effect::Reads, private));
    };
    Ok((values, Page(asked.next(next)?)))
}

fn observations(manifest: &Manifest, seen: Vec<ObservationMessage>) -> Result<Vec<Observation>, Failure> {
    seen.into_iter()
        .map(|record| observation(manifest, record))
        .collect()
}

fn observation(manifest: &Manifest, record: ObservationMessage) -> Result<Observation, Failure> {
    let refuse = |reason: &str| Err(wrong_answer(Effect::Reads, reason));
    if !manifest
        .datasets
        .iter()
        .any(|dataset| dataset.name == record.dataset)
    {
        return refuse("a record of a dataset that the manifest does not declare");
    }
    let handle = record.handle.unwrap_or_else(|| record.key.clone());
    if !words::is_key(&record.key) || !words::is_key(&handle) {
        return refuse("a record whose key or handle has not 1 to 1024 bytes");
    }
    if record.gone && !record.identifiers.is_empty() {
        return refuse("a record that is gone and holds identifiers");
    }
    Ok(Observation {
        dataset: record.dataset,
        key: record.key,
        unit: None,
        handle,
        identifiers: record.identifiers,
        count: if record.gone { 0 } else { record.count },
        gone: record.gone,
    })
}

fn rejected_input(message: RejectedMessage) -> Result<Rejected, Failure> {
    let input = BASE64_STANDARD
        .decode(&message.input)
        .map_err(|_| wrong_answer(Effect::Reads, "rejected input that is not base64"))?;
    Ok(Rejected {
        position: words::shown_position(&message.position, &input),
        code: "remote-input",
        expected: "input that the program can read".to_owned(),
        input,
        of: Vec::new(),
    })
}

/// What became of an instruction. An answer about another one, such as one of an old ticket, says nothing of it.
pub(crate) fn performed(
    ask: &Ask,
    effect: Effect,
    answer: Answer,
    private: &Private,
) -> Result<Performed, Failure> {
    let (Answer::Done { instruction, .. }
    | Answer::Accepted { instruction, .. }
    | Answer::Refused { instruction, .. }) = &answer
    else {
        return Err(failure(&answer, effect, private));
    };
    if *instruction != ask.id {
        return Err(wrong_answer(effect, "the answer is about another instruction"));
    }
    match answer {
        Answer::Done {
            outcome,
            records,
            details,
            ..
        } => receipt(ask.verb, effect, outcome, records, details, private).map(Performed::Done),
        Answer::Accepted {
            ticket,
            ask_after_ms,
            awaits,
            ..
        } => {
            if !words::is_ticket(&ticket, private) {
                let reason = "a ticket that could be personal: expected at most 127 of a-z, A-Z, 0-9, '-', '_' and '.', and nothing that was asked";
                return Err(wrong_answer(effect, reason));
            }
            let (least, most) = ASK_AFTER_MS.into_inner();
            Ok(Performed::Accepted {
                ticket,
                ask_after_ms: ask_after_ms.clamp(least, most),
                awaits,
            })
        }
        Answer::Refused { code, .. } => Ok(Performed::Refused {
            code: "remote-refused",
            reason: format!("the program refuses: {}", words::shown_code(&code, private)),
        }),
        other => Err(failure(&other, effect, private)),
    }
}

fn receipt(
    verb: Verb,
    effect: Effect,
    outcome: Outcome,
    records: u64,
    mut details: BTreeMap<String, u64>,
    private: &Private,
) -> Result<Receipt, Failure> {
    if !is_outcome_of(verb, outcome) {
        let reason = format!("{verb} is reported as {outcome}");
        return Err(wrong_answer(effect, reason));
    }
    if outcome == Outcome::NotFound && records > 0 {
        return Err(wrong_answer(effect, "nothing is found and records are counted"));
    }
    details.retain(|name, _| words::is_detail(name, private));
    while details.len() > DETAILS_MAX {
        details.pop_last();
    }
    Ok(Receipt {
        outcome,
        records,
        details,
    })
}

/// Whether a system can have done this when it was asked for that.
const fn is_outcome_of(verb: Verb, outcome: Outcome) -> bool {
    match outcome {
        Outcome::NotFound | Outcome::NotSupported | Outcome::Retained => true,
        Outcome::Erased | Outcome::Anonymised | Outcome::CryptoShredded => matches!(verb, Verb::Erase),
        Outcome::Restricted => matches!(verb, Verb::Restrict),
        Outcome::Lifted => matches!(verb, Verb::Lift),
        Outcome::Notified => false,
    }
}

pub(crate) fn observed(
    manifest: &Manifest,
    dataset: &DatasetName,
    answer: Answer,
    private: &Private,
) -> Result<Observed, Failure> {
    let Answer::Observed {
        observed,
        records,
        independence,
        gone,
    } = answer
    else {
        return Err(failure(&answer, Effect::Reads, private));
    };
    let is_seen = matches!(observed, Seen::Present | Seen::Restricted);
    if observed != Seen::CannotTell && is_seen != (records > 0) {
        let reason = format!("observed {observed} with {records} records");
        return Err(wrong_answer(Effect::Reads, reason));
    }
    if !gone.iter().all(|key| words::is_key(key)) {
        return Err(wrong_answer(Effect::Reads, "gone: a key has not 1 to 1024 bytes"));
    }
    Ok(Observed {
        observed,
        records,
        // A look is never called more independent than the manifest says that it can be.
        independence: independence.min(manifest.independence),
        gone: gone.into_iter().map(|key| (dataset.clone(), key)).collect(),
    })
}
