//! Carrying out an instruction, from wherever an earlier attempt left it.

use std::collections::{BTreeMap, BTreeSet};

use lethe_kit::{Ask, Performed, Receipt};
use lethe_terms::{Awaited, Outcome, Verb};

use crate::error::Error;
use crate::files::Found;
use crate::history::{Told, today};
use crate::log::Log;
use crate::matcher::Matcher;
use crate::state::Active;
use crate::writers::{Writers, writers};

/// When to ask again after a server that is reopening its logs.
const ASK_SOON_MS: u64 = 1_000;
/// When to ask again about a file that only rotation takes out of its writer's hands.
const ASK_AFTER_ROTATION_MS: u64 = 60_000;

/// How far the work on one file came.
enum Progress {
    /// Nothing is left to do in it.
    Clean,
    /// Its writer holds it, and nothing makes it let go.
    Held,
    /// It is exchanged, and the old one is not drained yet.
    Draining,
}

impl Log {
    /// Carries an instruction on. Once something of it may have happened, a failure is no failure of the whole: whoever asks again learns how it ended.
    pub(crate) fn perform(&mut self, ask: &Ask) -> Result<Performed, lethe_kit::Error> {
        self.advance(ask).map_err(|error| {
            let id = ask.id.to_string();
            let begun = |active: &Active| !active.touched.is_empty();
            let under_way = self.state.rewrite.as_ref().is_some_and(|r| r.instruction == id)
                || self.state.active.get(&id).is_some_and(begun)
                || self.history.done(&id).is_some();
            if under_way {
                lethe_kit::Error::Unknown {
                    code: error.code(),
                    reason: error.to_string(),
                }
            } else {
                error.into()
            }
        })
    }

    /// Carries an instruction on: the same id twice has the effect of once and gets the same receipt.
    fn advance(&mut self, ask: &Ask) -> Result<Performed, Error> {
        let id = ask.id.to_string();
        if let Some(told) = self.history.done(&id).cloned() {
            if self.state.active.remove(&id).is_some() {
                self.save()?;
            }
            return Ok(receipt(&told));
        }
        if !matches!(ask.verb, Verb::Erase | Verb::Restrict | Verb::Lift) {
            return Ok(refused(
                "weblog-verb",
                "the verb is none of erase, restrict, lift",
            ));
        }
        if !self.state.active.contains_key(&id)
            && let Some(refusal) = self.begin(ask, &id)?
        {
            return Ok(refusal);
        }
        self.settle_names()?;
        if !self.drain(true)? {
            return Ok(accepted(&id, ASK_SOON_MS, Awaited::Writers));
        }
        self.look_through_side(&id)?;
        self.look_through_files(&id)
    }

    /// Takes an instruction on; `Some` where it is refused.
    fn begin(&mut self, ask: &Ask, id: &str) -> Result<Option<Performed>, Error> {
        let matcher = Matcher::new(&ask.selector, &self.config.name)?;
        let digests = self.digests_of(&matcher);
        if self
            .history
            .generation(&digests)
            .is_some_and(|seen| seen > ask.generation)
        {
            return Ok(Some(refused(
                "weblog-stale-generation",
                "a newer instruction about one of its records was seen",
            )));
        }
        self.history.tell(
            &self.dir,
            Told::Seen {
                digests,
                generation: ask.generation,
                day: today(),
            },
        )?;
        let active = Active {
            verb: ask.verb,
            matcher,
            waiting: None,
            touched: BTreeSet::new(),
            lines: 0,
            cleared: 0,
        };
        self.state.active.insert(id.to_owned(), active);
        self.save()?;
        Ok(None)
    }

    /// Works on each file that was there when the instruction came. One that is done is not looked at again, whatever comes later: a repeat has no second effect.
    fn look_through_files(&mut self, id: &str) -> Result<Performed, Error> {
        let (files, unread) = self.listed()?;
        self.check_places(id, &files)?;
        let there: BTreeSet<u64> = files.iter().map(|f| f.id).collect();
        let waiting = &mut self.active(id)?.waiting;
        *waiting = Some(waiting.take().map_or(there.clone(), |waiting| &waiting & &there));
        for file in files {
            if !self
                .active(id)?
                .waiting
                .as_ref()
                .is_some_and(|waiting| waiting.contains(&file.id))
            {
                continue;
            }
            match self.work_on(id, &file)? {
                Progress::Clean => {
                    if let Some(waiting) = &mut self.active(id)?.waiting {
                        waiting.remove(&file.id);
                    }
                }
                Progress::Held => {}
                Progress::Draining => {
                    self.save()?;
                    return Ok(accepted(id, ASK_SOON_MS, Awaited::Writers));
                }
            }
        }
        if let Some(unread) = unread {
            // What can be read is done. Once the rest is away or can be read, too, everything is looked at again.
            self.active(id)?.waiting = None;
            self.save()?;
            return Err(unread);
        }
        if self.active(id)?.waiting.as_ref().is_some_and(BTreeSet::is_empty) {
            return self.finish(id);
        }
        self.save()?;
        Ok(accepted(id, ASK_AFTER_ROTATION_MS, Awaited::Rotation))
    }

    fn active(&mut self, id: &str) -> Result<&mut Active, Error> {
        self.state.active.get_mut(id).ok_or(Error::Ended)
    }

    /// Refuses a lift of lines whose file is gone: they stay where they are, and a person decides.
    fn check_places(&self, id: &str, files: &[Found]) -> Result<(), Error> {
        let Some(active) = self.state.active.get(id).filter(|a| a.verb == Verb::Lift) else {
            return Ok(());
        };
        let look = active.matcher.look(&self.rules, &self.config.name);
        let digests = self.digests_of(&active.matcher);
        let lost = |line: &&crate::side::SideLine| {
            files.iter().all(|f| f.id != line.file)
                && line.is_released_by(&digests)
                && !look.at(line.text()).is_empty()
        };
        match self.side()?.lines.iter().find(lost) {
            Some(_) => Err(Error::PlaceGone),
            None => Ok(()),
        }
    }

    fn work_on(&mut self, id: &str, file: &Found) -> Result<Progress, Error> {
        let counted = self.counted_upto(file.id)?;
        let Some(active) = self.state.active.get(id) else {
            return Err(Error::Ended);
        };
        let now = writers(file.dev, file.ino);
        let idle = now == Writers::None;
        let mut side = self.side()?;
        let looked = if active.verb == Verb::Lift {
            self.changes_of_lift(file, active, idle, counted, &mut side)
        } else {
            self.changes(file, active, idle, counted)
        };
        let changes = match looked {
            Ok(changes) => changes,
            // An archive that is being packed right now cannot be read yet.
            Err(Error::File { .. }) if file.gz && !idle => return Ok(Progress::Held),
            Err(e) => return Err(e),
        };
        if changes.edits.is_empty() {
            return Ok(Progress::Clean);
        }
        if !idle && (file.gz || self.reopen.is_empty() || now == Writers::Unknown) {
            return Ok(Progress::Held);
        }
        self.stops.stage()?;
        self.prepare(file, id, changes, side, idle)?;
        self.settle_names()?;
        if self.state.rewrite.is_none() {
            // Rotation came in between: the file is looked at again under its new name.
            return Ok(Progress::Draining);
        }
        // Late lines that were too long to look at are looked at where they are now.
        let again = |waiting: &BTreeSet<u64>| waiting.contains(&file.id);
        Ok(
            if self.drain(true)? && !self.active(id)?.waiting.as_ref().is_some_and(again) {
                Progress::Clean
            } else {
                Progress::Draining
            },
        )
    }

    fn finish(&mut self, id: &str) -> Result<Performed, Error> {
        let Some(active) = self.state.active.get(id) else {
            return Err(Error::Ended);
        };
        let outcome = match active.verb {
            _ if active.touched.is_empty() => Outcome::NotFound,
            Verb::Restrict => Outcome::Restricted,
            Verb::Lift => Outcome::Lifted,
            _ if active.cleared > 0 => Outcome::Anonymised,
            _ => Outcome::Erased,
        };
        let told = Told::Done {
            instruction: id.to_owned(),
            outcome,
            records: active.touched.len() as u64,
            lines: active.lines,
            cleared: active.cleared,
            day: today(),
        };
        self.drop_unnamed()?;
        self.stops.stage()?;
        self.history.tell(&self.dir, told.clone())?;
        self.stops.answer()?;
        self.state.active.remove(id);
        self.save()?;
        Ok(receipt(&told))
    }
}

fn accepted(id: &str, ask_after_ms: u64, awaits: Awaited) -> Performed {
    Performed::Accepted {
        ticket: id.to_owned(),
        ask_after_ms,
        awaits: Some(awaits),
    }
}

fn refused(code: &'static str, reason: &str) -> Performed {
    Performed::Refused {
        code,
        reason: reason.to_owned(),
    }
}

fn receipt(told: &Told) -> Performed {
    let Told::Done {
        outcome,
        records,
        lines,
        cleared,
        ..
    } = told
    else {
        return refused("weblog-stopped", "the history holds no receipt of it");
    };
    let mut details = BTreeMap::from([("lines".to_owned(), *lines)]);
    if *cleared > 0 {
        details.insert("lines_kept_without_fields".to_owned(), *cleared);
    }
    Performed::Done(Receipt {
        outcome: *outcome,
        records: *records,
        details,
    })
}
