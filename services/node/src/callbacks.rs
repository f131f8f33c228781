//! Callbacks of remote connectors: what one says is not believed, and its signature only buys a question that is asked sooner.

use std::collections::BTreeMap;

use lethe_casework::Ticket;
use lethe_gateway::{BackendError, Callback, CallbackView};
use lethe_journal::Answer;
use lethe_log::EventLog;
use lethe_remote::CallbackKeys;
use lethe_remote::webhook::Headers;
use lethe_terms::{CaseId, InstructionId, SystemName};

use crate::cases::Cases;
use crate::settings::Settings;
use crate::{Error, connect, publish, shell};

/// A question that is due within this time needs no callback, in milliseconds.
const SOON_MS: i64 = 500;

/// The keys of the systems that may call back.
pub(crate) struct Callbacks(BTreeMap<SystemName, CallbackKeys>);

/// An instruction that a system has taken.
struct Taken {
    /// With which it is asked again; nothing while the case does not know of it.
    ticket: Option<Ticket>,
    case: CaseId,
}

impl Callbacks {
    /// Reads the key files of the remote systems.
    ///
    /// # Errors
    /// Where a system's settings are wrong.
    pub(crate) fn open(settings: &Settings) -> Result<Self, Error> {
        let remote = settings
            .systems
            .iter()
            .filter(|system| system.kind == connect::REMOTE);
        let keys = remote.map(|system| {
            let config = connect::settings_of(system).and_then(|config: lethe_remote::Config| {
                CallbackKeys::open(&config).map_err(|error| error.to_string())
            });
            let keys = config.map_err(|message| Error::Connector {
                file: settings.file.clone(),
                system: system.name.to_string(),
                message,
            })?;
            Ok((system.name.clone(), keys))
        });
        keys.collect::<Result<_, Error>>().map(Self)
    }

    /// Asks now, where the callback is the system's and there is something to ask.
    pub(crate) async fn take(
        &self,
        log: &dyn EventLog,
        cases: &Cases,
        callback: Callback,
    ) -> Result<CallbackView, BackendError> {
        let keys = self.0.get(&callback.system).ok_or(BackendError::NotFound {
            what: "remote system",
        })?;
        let headers = Headers {
            id: callback.id,
            timestamp: callback.timestamp,
            signature: callback.signature,
        };
        keys.verify(&headers, callback.instruction, &callback.body)
            .map_err(|why| BackendError::Invalid {
                code: "remote-signature".into(),
                message: format!("the callback does not prove to come from the system: {why}"),
                expected: "webhook-id with the instruction, and a signature with a key of the system".into(),
            })?;
        let taken = taken(cases, &callback.system, callback.instruction).ok_or(BackendError::NotFound {
            what: "instruction under way",
        })?;
        let Some(ticket) = taken.ticket else {
            return Ok(CallbackView { asks: false });
        };
        if ticket.ask_at.since(shell::now()) > SOON_MS {
            // The system has said before that it works on it; now it says when to ask.
            let again = Answer::InProgress {
                case: taken.case,
                instruction: callback.instruction,
                ticket: ticket.quote,
                ask_after_ms: 0,
                awaits: ticket.awaits,
            };
            publish::answers(log, "/lethe/gateway", vec![again])
                .await
                .map_err(|error| BackendError::Unknown {
                    code: error.code().to_owned(),
                    message: "whether the question is asked sooner is unknown; it is asked in any case"
                        .into(),
                })?;
        }
        Ok(CallbackView { asks: true })
    }
}

/// The step of a case's present plan that this instruction is out for, unless it is reported already.
fn taken(cases: &Cases, system: &SystemName, instruction: InstructionId) -> Option<Taken> {
    let conductor = cases.look();
    conductor.cases().find_map(|case| {
        let present = case.plan()?;
        let (_, progress) = present.each().find(|(step, progress)| {
            let is_sent = progress.sent.is_some_and(|sent| sent.instruction == instruction);
            step.system == *system && is_sent && progress.report.is_none()
        })?;
        Some(Taken {
            ticket: progress.ticket.clone(),
            case: case.id,
        })
    })
}
