//! What all calls share: the places, questions about positions, fences, and who waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lethe_journal::{Epoch, Place, Position, Stored, Stream, StreamKind};
use lethe_log::rules::{self, PageBudget};
use lethe_log::{Error, Page, Stray};
use rdkafka::consumer::Consumer as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::channel::{Channel, Trail};
use crate::cleaning::Beats;
use crate::clients::{Clients, Consumer};
use crate::moment::Moment;
use crate::reading::{Readers, STANDING, Want, unread};
use crate::settings::KafkaSettings;
use crate::told;
use crate::wire::{Content, Found, Read};

/// How long a question about positions may take: an election of a leader may come in between.
pub(crate) const ASK_TIMEOUT: Duration = Duration::from_secs(20);

/// How long one attempt may take. What the library found out about leaders may be old: the next attempt finds out anew.
pub(crate) const ASK_ONCE_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause before a question that was not answered is asked again.
const ASK_PAUSE: Duration = Duration::from_millis(50);

/// How long a reader who seems to have seen more than there is waits: a new leader of a partition knows its end a moment late.
const SHORTER_PATIENCE: Duration = Duration::from_secs(2);

/// Pause between two looks whether places that somebody waits for have grown.
const WATCH_PAUSE: Duration = Duration::from_millis(5);

/// Longest pause, where nothing has grown for a while: five looks a second that a reader would notice cost a broker nothing.
const WATCH_PAUSE_MAX: Duration = Duration::from_millis(25);

/// How often clients that read nothing are looked at, whether or not heads are: what they ask may wait so long.
const TEND_EVERY: Duration = STANDING;

/// Entries in which a fence is looked for first, from the end; then in ever more.
const FENCE_WINDOW_ENTRIES: u64 = 1_024;

/// What all calls share.
pub(crate) struct Shared {
    pub(crate) settings: KafkaSettings,
    pub(crate) clients: Clients,
    pub(crate) readers: Readers,
    pub(crate) channels: BTreeMap<Place, Arc<Channel>>,
    pub(crate) beats: Beats,
    watch: Mutex<Watch>,
    wake: Condvar,
}

/// What was read, without what nobody is to see.
struct Sifted {
    entries: Vec<Stored>,
    strays: Vec<Stray>,
    /// The newest epoch after them, where it is known.
    epoch: Option<Epoch>,
}

#[derive(Default)]
struct Watch {
    waiting: BTreeMap<Place, usize>,
    is_closed: bool,
}

impl Shared {
    pub(crate) fn new(settings: KafkaSettings, clients: Clients, streams: &[Stream]) -> Self {
        let channels = streams
            .iter()
            .flat_map(Place::all)
            .map(|at| {
                let topic = crate::topics::name(&settings, &at.stream);
                (at.clone(), Channel::new(at, topic))
            })
            .collect();
        Self {
            settings,
            clients,
            readers: Readers::new(),
            channels,
            beats: Beats::default(),
            watch: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    /// The channel of a place.
    pub(crate) fn channel(&self, at: &Place) -> Result<&Arc<Channel>, Error> {
        rules::check_place(at)?;
        self.channels
            .get(at)
            .ok_or_else(|| Error::NotStored(format!("the log has no stream {}", at.stream)))
    }

    /// The first position that is still there, and the one up to which the partition can be read.
    pub(crate) fn span(&self, channel: &Channel) -> Result<(Position, Position), Error> {
        let until = Instant::now() + ASK_TIMEOUT;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let asked = self.clients.asking.fetch_watermarks(
                &channel.topic,
                channel.partition(),
                left.min(ASK_ONCE_TIMEOUT),
            );
            match asked {
                Ok((low, high)) => {
                    let position = |offset| {
                        Position::try_from(offset)
                            .map_err(|_| unread(&channel.at, "its positions are not known"))
                    };
                    return Ok((position(low)?, position(high)?));
                }
                Err(error) if Instant::now() >= until => return Err(unread(&channel.at, &told(&error))),
                // A partition without a leader answers at once, and so does a broker that is not there.
                Err(_) => std::thread::sleep(ASK_PAUSE),
            }
        }
    }

    /// The newest epoch whose fence stands in `from..to`; 0 where none does.
    pub(crate) fn newest_fence(
        &self,
        channel: &Channel,
        from: Position,
        to: Position,
    ) -> Result<Epoch, Error> {
        let mut newest = 0;
        self.readers.scan(&self.clients, channel, from, to, &mut |read| {
            if let (Found::Ours(Content::Fence), Some(epoch)) = (read.found, read.epoch) {
                newest = newest.max(epoch);
            }
            Want::More
        })?;
        Ok(newest)
    }

    /// The newest epoch that began before a position. Reads backwards until it meets a fence: in a partition without
    /// one that is everything, in one with a single writer as much as it wrote.
    pub(crate) fn fence_before(
        &self,
        channel: &Channel,
        low: Position,
        position: Position,
    ) -> Result<Epoch, Error> {
        let (mut to, mut window) = (position, FENCE_WINDOW_ENTRIES);
        while to > low {
            if let Some(epoch) = channel.trail(to).epoch {
                return Ok(epoch);
            }
            let from = to.saturating_sub(window).max(low);
            let newest = self.newest_fence(channel, from, to)?;
            if newest > 0 {
                return Ok(newest);
            }
            (to, window) = (from, window.saturating_mul(4));
        }
        Ok(0)
    }

    /// Reads a page. Where the start of the partition is dropped under this very look, the page begins where the partition begins now.
    pub(crate) fn page(&self, channel: &Channel, from: Position, limit: usize) -> Result<Page, Error> {
        let began = Moment::now();
        let mut span = self.span_for(channel, from)?;
        rules::check_from(&channel.at, from, span.1)?;
        loop {
            let read = self.page_within(channel, (from, limit), span, began);
            let Err(error) = read else { return read };
            let now = self.span(channel)?;
            if now.0 <= span.0 {
                return Err(error);
            }
            span = now;
        }
    }

    /// Reads a page of what stands between the first position that is still there and the head.
    fn page_within(
        &self,
        channel: &Channel,
        (from, limit): (Position, usize),
        (low, high): (Position, Position),
        began: Moment,
    ) -> Result<Page, Error> {
        channel.raise(high);
        let trail = channel.trail(from);
        let is_fresh = trail
            .as_of
            .is_some_and(|as_of| as_of.age() < self.settings.retention.reader_away_max());
        let fell_behind = match channel.at.stream.kind() {
            StreamKind::Queue | StreamKind::History => from < low,
            StreamKind::Table => {
                from > 0 && from < high && !is_fresh && from < self.old_before(channel, high)?
            }
        };
        let budget = PageBudget::new(limit);
        if budget.is_full() {
            return Ok(Page {
                entries: Vec::new(),
                strays: Vec::new(),
                next: from,
                head: high,
                fell_behind,
            });
        }
        let start = from.max(low);
        let (read, next) = self.fill(channel, start, high, budget)?;
        let Sifted {
            entries,
            strays,
            epoch,
        } = self.drop_stale(channel, (low, start), trail.epoch, read)?;
        let as_of = if next == high || from == 0 {
            Some(began)
        } else {
            trail.as_of
        };
        channel.note(next, Trail { epoch, as_of });
        Ok(Page {
            entries,
            strays,
            next,
            head: high,
            fell_behind,
        })
    }

    /// What fits a page, with fences, before anything of it is dropped.
    fn fill(
        &self,
        channel: &Channel,
        from: Position,
        to: Position,
        mut budget: PageBudget,
    ) -> Result<(Vec<Read>, Position), Error> {
        let mut read = Vec::new();
        let next = self
            .readers
            .scan(&self.clients, channel, from, to, &mut |next: Read| {
                let value_bytes = match &next.found {
                    Found::Ours(Content::Heartbeat) => return Want::More,
                    Found::Ours(Content::Fence) => {
                        read.push(next);
                        return Want::More;
                    }
                    Found::Ours(Content::Entry(entry)) => entry.value.as_ref().map_or(0, Vec::len),
                    Found::Stray { key, value } => key.len() + value.len(),
                };
                if !budget.fits(value_bytes) {
                    return Want::TooMuch;
                }
                budget.take(value_bytes);
                read.push(next);
                if budget.is_full() {
                    Want::Enough
                } else {
                    Want::More
                }
            })?;
        Ok((read, next))
    }

    /// What was read without entries of a writer that wrote after a newer one had begun.
    fn drop_stale(
        &self,
        channel: &Channel,
        (low, start): (Position, Position),
        known: Option<Epoch>,
        read: Vec<Read>,
    ) -> Result<Sifted, Error> {
        let mut current = if start == low {
            Some(known.unwrap_or(0))
        } else {
            known
        };
        if current.is_none() && read.iter().any(|read| read.epoch.is_some()) {
            current = Some(self.fence_before(channel, low, start)?);
        }
        let (mut entries, mut strays) = (Vec::new(), Vec::new());
        for Read {
            position,
            taken_at,
            epoch,
            found,
        } in read
        {
            match (found, epoch) {
                (Found::Ours(Content::Fence), epoch) => current = current.max(epoch),
                (Found::Ours(Content::Heartbeat), _) => {}
                (Found::Ours(Content::Entry(_)), Some(epoch))
                    if current.is_some_and(|current| epoch < current) =>
                {
                    tracing::error!(at = %channel.at, position, epoch, "an entry of a fenced writer is left out");
                }
                (Found::Ours(Content::Entry(entry)), _) => entries.push(Stored {
                    position,
                    taken_at,
                    entry,
                }),
                (Found::Stray { key, value }, _) => {
                    let code = Stray::CODE;
                    tracing::warn!(code, at = %channel.at, position, "what somebody else wrote is left out");
                    strays.push(Stray { position, key, value });
                }
            }
        }
        Ok(Sifted {
            entries,
            strays,
            epoch: current,
        })
    }

    fn span_for(&self, channel: &Channel, from: Position) -> Result<(Position, Position), Error> {
        let until = Instant::now() + SHORTER_PATIENCE;
        loop {
            let span = self.span(channel)?;
            if from <= span.1 || Instant::now() >= until {
                return Ok(span);
            }
            std::thread::sleep(WATCH_PAUSE_MAX);
        }
    }

    /// The position before which everything is older than a reader may be away.
    fn old_before(&self, channel: &Channel, high: Position) -> Result<Position, Error> {
        let since = past(self.settings.retention.reader_away_max());
        let found =
            ask(&self.clients.asking, [channel], since).map_err(|error| unread(&channel.at, &error))?;
        Ok(found.first().copied().flatten().unwrap_or(high))
    }

    /// Adds somebody who waits for a place.
    pub(crate) fn begin_waiting(&self, at: &Place) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        *watch.waiting.entry(at.clone()).or_default() += 1;
        self.wake.notify_one();
    }

    /// Takes away somebody who waited.
    pub(crate) fn end_waiting(&self, at: &Place) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = watch.waiting.get_mut(at) {
            *count -= 1;
            if *count == 0 {
                watch.waiting.remove(at);
            }
        }
    }

    /// Ends [`Shared::watch`].
    pub(crate) fn close(&self) {
        self.watch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_closed = true;
        self.wake.notify_one();
    }

    /// Looks after the places that somebody waits for, after readers that nobody came back to, and after the client for questions, until the
    /// log is closed.
    pub(crate) fn watch(&self) {
        let (mut pause, mut tended) = (WATCH_PAUSE, Instant::now());
        loop {
            self.readers.rest_after(STANDING);
            if tended.elapsed() >= TEND_EVERY {
                self.readers.tend();
                self.clients.tend();
                tended = Instant::now();
            }
            let places: Vec<Place> = {
                let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
                let is_idle = |watch: &mut Watch| watch.waiting.is_empty() && !watch.is_closed;
                let (watch, _) = self
                    .wake
                    .wait_timeout_while(watch, STANDING, is_idle)
                    .unwrap_or_else(PoisonError::into_inner);
                if watch.is_closed {
                    return;
                }
                watch.waiting.keys().cloned().collect()
            };
            if places.is_empty() {
                continue;
            }
            let has_grown = self.look(&places);
            pause = if has_grown {
                WATCH_PAUSE
            } else {
                (pause + pause / 4).min(WATCH_PAUSE_MAX)
            };
            let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
            // A new waiter ends the pause.
            drop(self.wake.wait_timeout(watch, pause));
        }
    }

    fn look(&self, places: &[Place]) -> bool {
        let channels: Vec<&Channel> = places
            .iter()
            .filter_map(|at| self.channels.get(at))
            .map(Arc::as_ref)
            .collect();
        // Who watches also answers what clients ask: it waits for nobody for long.
        let heads = match ask_once(&self.clients.asking, channels.iter().copied(), Offset::End) {
            Ok(heads) => heads,
            Err(error) => {
                tracing::debug!(error, "heads are not known");
                return false;
            }
        };
        let mut has_grown = false;
        for (channel, head) in channels.iter().zip(heads) {
            let head = head.unwrap_or(0);
            has_grown |= head > *channel.head.borrow();
            channel.raise(head);
        }
        has_grown
    }
}

/// The question for the first entry that is younger than this.
pub(crate) fn past(age: Duration) -> Offset {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let since = now.saturating_sub(age).as_millis();
    Offset::Offset(i64::try_from(since).unwrap_or(i64::MAX))
}

/// Asks for positions of several places at once, as this client may see them, until it is answered: a new leader is known a moment late.
pub(crate) fn ask<'a>(
    client: &Consumer,
    places: impl IntoIterator<Item = &'a Channel> + Clone,
    what: Offset,
) -> Result<Vec<Option<Position>>, String> {
    let until = Instant::now() + ASK_TIMEOUT;
    loop {
        let asked = ask_once(client, places.clone(), what);
        if asked.is_ok() || Instant::now() >= until {
            return asked;
        }
        std::thread::sleep(ASK_PAUSE);
    }
}

fn ask_once<'a>(
    client: &Consumer,
    places: impl IntoIterator<Item = &'a Channel>,
    what: Offset,
) -> Result<Vec<Option<Position>>, String> {
    let mut list = TopicPartitionList::new();
    for channel in places {
        list.add_partition_offset(&channel.topic, channel.partition(), what)
            .map_err(|error| told(&error))?;
    }
    let found = client
        .offsets_for_times(list, ASK_ONCE_TIMEOUT)
        .map_err(|error| told(&error))?;
    let position = |offset| match offset {
        Offset::Offset(offset) => Position::try_from(offset).ok(),
        _ => None,
    };
    Ok(found
        .elements()
        .iter()
        .map(|element| position(element.offset()))
        .collect())
}
