//! Pages of cases, newest first.

use lethe_gateway::asks::CaseQuery;
use lethe_gateway::backend::BackendError;
use lethe_gateway::limits::{PAGE_CASES, PAGE_CASES_MAX};
use lethe_gateway::views::CasePage;
use lethe_gateway::words;

use crate::cases::Cases;
use crate::{shell, views};

/// How many entries of a list a page has.
pub(crate) fn page_length(asked: Option<u32>) -> usize {
    let length = asked.unwrap_or(PAGE_CASES).clamp(1, PAGE_CASES_MAX);
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// The page that was asked for.
///
/// # Errors
/// Refuses the name of a page that no page before gave.
pub(crate) fn page(cases: &Cases, query: &CaseQuery) -> Result<CasePage, BackendError> {
    let (conductor, now) = (cases.look(), shell::now());
    let mut all: Vec<_> = conductor.cases().collect();
    all.sort_by_key(|case| (std::cmp::Reverse(case.opening.received_at), case.id));
    let total = u64::try_from(all.len()).unwrap_or(u64::MAX);
    let limit = page_length(query.limit);
    let skip = query
        .page
        .as_deref()
        .map_or(Ok(0), str::parse::<usize>)
        .map_err(|_| BackendError::Invalid {
            code: "node-page".into(),
            message: "unknown page".into(),
            expected: "the page that the page before named".into(),
        })?;
    let fitting = all.into_iter().filter(|case| {
        let state = conductor.state(case);
        query.right.is_none_or(|right| right == case.opening.right)
            && (!query.overdue || words::is_overdue(state, !case.issued.is_empty(), case.due, now))
            && (!query.waiting || state.waits_for_person())
            && query.state.is_none_or(|asked| asked == state)
    });
    let mut shown: Vec<_> = fitting
        .skip(skip)
        .take(limit + 1)
        .map(|case| views::case_view(&conductor, case))
        .collect();
    let next = (shown.len() > limit).then(|| (skip + limit).to_string());
    shown.truncate(limit);
    Ok(CasePage {
        cases: shown,
        next,
        total,
    })
}
