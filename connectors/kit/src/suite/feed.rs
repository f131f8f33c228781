//! The numbers of CONTRACT.md about the feed.

use std::collections::BTreeSet;

use lethe_terms::{DatasetName, Verb};

use super::Miss;
use super::musts::{LIMIT, Must, whole};
use super::run::{Run, broken, counted};
use crate::Observation;
use crate::host::CURSOR_BYTES_MAX;

/// How far a page may exceed the limit: a source has its own smallest unit of reading, such as a block of a table.
const LIMIT_EXCESS_MAX: usize = 300;

pub(super) async fn feed_shows_all(run: &mut Run<'_>) -> Must {
    let person = run.person("ada").await?;
    for n in 0..run.fixture.crowd() {
        run.person(&format!("crowd{n}")).await?;
    }
    let pages = run.feed(&run.beginnings(), LIMIT).await?;
    if run.fixture.crowd() > 0
        && let Some(page) = pages
            .iter()
            .find(|p| p.observations.len() > LIMIT + LIMIT_EXCESS_MAX)
    {
        return broken(format!(
            "a page of at most about {LIMIT} has {} records",
            page.observations.len()
        ));
    }
    let observations: Vec<Observation> = pages.into_iter().flat_map(|p| p.observations).collect();
    whole(&person, &observations).map_err(Miss::Broken)?;
    Ok(counted(observations.len(), "record"))
}

pub(super) async fn cursor_repeats(run: &mut Run<'_>) -> Must {
    run.ends(LIMIT).await?;
    let before = run.ends(LIMIT).await?;
    let person = run.person("ada").await?;
    let first: Vec<Observation> = run
        .feed(&before, LIMIT)
        .await?
        .into_iter()
        .flat_map(|p| p.observations)
        .collect();
    let second: Vec<Observation> = run
        .feed(&before, LIMIT)
        .await?
        .into_iter()
        .flat_map(|p| p.observations)
        .collect();
    whole(&person, &first).map_err(Miss::Broken)?;
    whole(&person, &second).map_err(|why| Miss::Broken(format!("at the second reading, {why}")))?;
    Ok("the same again".to_owned())
}

pub(super) async fn feed_follows(run: &mut Run<'_>) -> Must {
    let ends = run.ends(LIMIT).await?;
    let person = run.person("late").await?;
    let observations: Vec<Observation> = run
        .feed(&ends, LIMIT)
        .await?
        .into_iter()
        .flat_map(|p| p.observations)
        .collect();
    whole(&person, &observations).map_err(Miss::Broken)?;
    Ok("seen".to_owned())
}

pub(super) async fn gone_is_said(run: &mut Run<'_>) -> Must {
    let person = run.person("ada").await?;
    let ends = run.ends(LIMIT).await?;
    let located = run.located(&person).await?;
    let mut selectors = Vec::new();
    for dataset in run.datasets(&person, Verb::Erase) {
        selectors.push((dataset.clone(), run.selector(&person, &dataset).await?));
    }
    run.erase(&person).await?;
    let mut gone: BTreeSet<(DatasetName, String)> = BTreeSet::new();
    for (dataset, selector) in &selectors {
        gone.extend(run.observe(dataset, selector).await?.gone);
    }
    for observation in run
        .feed(&ends, LIMIT)
        .await?
        .into_iter()
        .flat_map(|p| p.observations)
        .filter(|o| o.gone)
    {
        gone.insert((observation.dataset, observation.key));
    }
    let erased = located
        .iter()
        .filter(|o| selectors.iter().any(|(d, _)| *d == o.dataset));
    let silent = erased
        .filter(|o| !gone.contains(&(o.dataset.clone(), o.key.clone())))
        .count();
    if silent > 0 {
        return broken(format!("{silent} erased records are not said to be gone"));
    }
    Ok(counted(gone.len(), "record"))
}

pub(super) async fn cursors_are_clean(run: &mut Run<'_>) -> Must {
    let person = run.person("ada").await?;
    let located = run.located(&person).await?;
    let mut private: Vec<String> = person.identifiers.iter().map(|i| i.value.clone()).collect();
    // Short keys, such as small numbers, stand in any text by chance.
    private.extend(
        located
            .iter()
            .flat_map(|o| [o.key.clone(), o.handle.clone()])
            .filter(|k| k.len() >= LONG_ENOUGH),
    );
    for page in run.feed(&run.beginnings(), 1).await? {
        if page.cursor.len() > CURSOR_BYTES_MAX {
            return broken(format!("a cursor has {} bytes", page.cursor.len()));
        }
        let cursor = page.cursor.to_lowercase();
        if private.iter().any(|value| cursor.contains(&value.to_lowercase())) {
            return broken("a cursor holds an identifier or the key of a record");
        }
    }
    Ok("clean".to_owned())
}

/// Characters from which on a text cannot stand in another by chance.
const LONG_ENOUGH: usize = 8;
