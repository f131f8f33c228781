//! Limits of the server, each with its reason.

use std::time::Duration;

/// Longest body, in bytes: 64 identifiers of 1 KiB and their JSON fit twice over.
pub const BODY_BYTES_MAX: usize = 128 * 1024;

/// Events in one batch: with one group commit for all of them, more would make none of them cheaper.
pub const EVENTS_MAX: usize = 1_000;

/// Longest batch of events, in bytes, packed and unpacked: [`EVENTS_MAX`] events of 4 KiB.
pub const EVENTS_BYTES_MAX: usize = 4 << 20;

/// Batches of events at the same time. Each holds its body, its events and their sealed form, about 16 MiB at most.
pub const PUBLISHERS_MAX: usize = 16;

/// Longest time for a body to arrive. A body of 128 KiB needs 10 s even at 13 kB/s.
pub const BODY_TIME_MAX: Duration = Duration::from_secs(10);

/// Longest time for the head of a request to arrive: who opens a connection and says nothing holds memory.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// Longest wait for a case in one request: below the 60 s after which common proxies give up.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// Time for an answer of the backend beyond any asked-for wait: it covers one group commit on a slow disk many times.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

/// Time for looking at a live system or running the conformance suite against it: systems answer slowly, suites ask often.
pub const CHECK_TIME_MAX: Duration = Duration::from_secs(600);

/// Requests at the same time. Each holds a body and an answer at most, about 1 MiB: bounded memory under any load.
pub const REQUESTS_MAX: usize = 256;

/// Of these, waiting for a case: waiting must not use up the places of those who act.
pub const WAITERS_MAX: usize = 128;

/// Connections at the same time: open files are limited to 1,024 by default on Debian.
pub const CONNECTIONS_MAX: usize = 512;

/// Time that running requests get to end when the server stops.
pub const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// How long a browser stays logged in.
pub const SESSION_TIME_MAX: Duration = Duration::from_secs(30 * 60);

/// Sessions of browsers at the same time: a company's data protection team many times over.
pub const SESSIONS_MAX: usize = 256;

/// Longest `Idempotency-Key`, in bytes: a UUID has 36.
pub const KEY_BYTES_MAX: usize = 255;

/// How old what is known of cases may be before it is said: they are read every few seconds, and an election of a leader of the log takes less.
pub const CASES_AGE_MAX: Duration = Duration::from_secs(30);

/// Cases on a page where nothing is said.
pub const PAGE_CASES: u32 = 100;

/// Most cases on a page.
pub const PAGE_CASES_MAX: u32 = 500;
