//! The numbers of CONTRACT.md, one function each.

use std::collections::BTreeSet;

use lethe_terms::{DatasetName, Identifier, Observed as Seen, Outcome, Verb};

use super::run::{Run, broken, by_identifiers, counted, failed};
use super::{Miss, Planted, feed};
use crate::{Error, Observation, Page, Performed, Selected, Selector};

/// Units asked for in one page of the feed.
pub(super) const LIMIT: usize = 50;
pub(super) type Must = Result<String, Miss>;

pub(super) async fn execute(run: &mut Run<'_>, number: usize) -> Must {
    match number {
        1 => manifest_is_truthful(run).await,
        2 => repeat_has_no_effect(run, false).await,
        3 => repeat_has_no_effect(run, true).await,
        4 => lost_answer(run).await,
        5 => stale_is_refused(run).await,
        6 => unknown_handle(run).await,
        7 => erased_is_gone(run).await,
        8 => observation_looks(run).await,
        9 => restricted_is_out_of_use(run).await,
        10 => lifting_puts_back(run).await,
        11 => older_lift(run).await,
        12 => others_stay(run).await,
        13 => every_identifier_finds(run).await,
        14 => observations_are_whole(run).await,
        15 => nothing_selected(run).await,
        16 => feed::feed_shows_all(run).await,
        17 => feed::cursor_repeats(run).await,
        18 => feed::feed_follows(run).await,
        19 => feed::gone_is_said(run).await,
        20 => feed::cursors_are_clean(run).await,
        21 => errors_are_clean(run).await,
        22 => export_is_whole(run).await,
        23 => check_touches_nothing(run).await,
        _ => Err(Miss::NotTried("no such number".to_owned())),
    }
}

async fn manifest_is_truthful(run: &mut Run<'_>) -> Must {
    let connector = run.connector();
    let manifest = connector.manifest();
    if manifest.datasets.is_empty() || manifest.concurrency_max == 0 || manifest.timeout_ms == 0 {
        return broken("the manifest names no dataset, or a bound of zero");
    }
    let nobody = Selector {
        records: vec![Selected { handle: run.nobody() }],
        identifiers: Vec::new(),
    };
    for dataset in &manifest.datasets {
        for verb in [Verb::Erase, Verb::Restrict, Verb::Lift, Verb::Rectify] {
            let ask = run.ask(&dataset.name, verb, &nobody);
            let performed = run.connector().perform(&ask).await.map_err(failed(verb.code()))?;
            let refused = matches!(performed, Performed::Refused { .. });
            // Correcting is no work of this contract yet, whatever is declared.
            if refused == (dataset.verbs.contains(&verb) && verb != Verb::Rectify) {
                return broken(format!(
                    "{} of {} is {}",
                    verb,
                    dataset.name,
                    if refused {
                        "declared and refused"
                    } else {
                        "not declared and done"
                    }
                ));
            }
        }
    }
    Ok(counted(manifest.datasets.len(), "dataset"))
}

/// Erase, put back, erase again with the same id: the person must still be there.
async fn repeat_has_no_effect(run: &mut Run<'_>, restart: bool) -> Must {
    if !run.connector().manifest().detects_repeats {
        return Err(Miss::NotTried(
            "the manifest says that repeats are not detected".to_owned(),
        ));
    }
    let person = run.person("ada").await?;
    let dataset = run.dataset(&person, Verb::Erase)?;
    let selector = run.selector(&person, &dataset).await?;
    let ask = run.ask(&dataset, Verb::Erase, &selector);
    let first = run.done(&ask).await?;
    let person = run.again(&person).await?;
    if restart {
        run.fixture.restart().await;
    }
    let second = run.done(&ask).await?;
    if first != second {
        return broken(format!(
            "the receipts differ: {} records, then {}",
            first.records, second.records
        ));
    }
    run.expect(
        &dataset,
        &by_identifiers(&person),
        Seen::Present,
        "after a repeat of an old instruction",
    )
    .await?;
    Ok("one effect, one receipt".to_owned())
}

async fn lost_answer(run: &mut Run<'_>) -> Must {
    if !run.connector().manifest().detects_repeats {
        return Err(Miss::NotTried(
            "the manifest says that repeats are not detected".to_owned(),
        ));
    }
    let person = run.person("ada").await?;
    let dataset = run.dataset(&person, Verb::Erase)?;
    let selector = run.selector(&person, &dataset).await?;
    let ask = run.ask(&dataset, Verb::Erase, &selector);
    if !run.fixture.crash_after_next_effect().await {
        return Err(Miss::NotTried(
            "an answer cannot be lost on purpose here".to_owned(),
        ));
    }
    match run.connector().perform(&ask).await {
        Err(Error::Unknown { .. }) => {}
        Err(error) => {
            return broken(format!(
                "a lost answer is reported as {}: expected unknown",
                error.code()
            ));
        }
        Ok(_) => return Err(Miss::NotTried("the answer was not lost".to_owned())),
    }
    run.again(&person).await?;
    run.fixture.restart().await;
    let receipt = run.done(&ask).await?;
    if !matches!(receipt.outcome, Outcome::Erased | Outcome::Anonymised) {
        return broken(format!("the receipt says {}", receipt.outcome));
    }
    run.expect(
        &dataset,
        &by_identifiers(&person),
        Seen::Present,
        "after asking again",
    )
    .await?;
    Ok("the receipt came, without a second effect".to_owned())
}

async fn stale_is_refused(run: &mut Run<'_>) -> Must {
    if !run.connector().manifest().detects_repeats {
        return Err(Miss::NotTried(
            "the manifest says that nothing is remembered".to_owned(),
        ));
    }
    let person = run.person("ada").await?;
    let dataset = run
        .dataset(&person, Verb::Restrict)
        .or_else(|_| run.dataset(&person, Verb::Erase))?;
    let verb = run
        .dataset(&person, Verb::Restrict)
        .map_or(Verb::Erase, |_| Verb::Restrict);
    let selector = run.selector(&person, &dataset).await?;
    let stale = run.ask(&dataset, Verb::Erase, &selector);
    let newer = run.ask(&dataset, verb, &selector);
    run.done(&newer).await?;
    let person = if verb == Verb::Erase {
        run.again(&person).await?
    } else {
        person
    };
    run.fixture.restart().await;
    match run.connector().perform(&stale).await.map_err(failed("erase"))? {
        Performed::Refused { .. } => {}
        _ => return broken("an older instruction is carried out after a newer one"),
    }
    let seen = run.observe(&dataset, &by_identifiers(&person)).await?;
    if seen.observed == Seen::Absent {
        return broken("the older instruction is refused and done all the same");
    }
    Ok("refused".to_owned())
}

async fn unknown_handle(run: &mut Run<'_>) -> Must {
    let connector = run.connector();
    for dataset in connector
        .manifest()
        .datasets
        .iter()
        .filter(|d| d.verbs.contains(&Verb::Erase))
    {
        for handle in [
            run.nobody(),
            "nobody".to_owned(),
            String::new(),
            "[\"0\",\"0\",\"0\"]".to_owned(),
        ] {
            let selector = Selector {
                records: vec![Selected { handle }],
                identifiers: Vec::new(),
            };
            let ask = run.ask(&dataset.name, Verb::Erase, &selector);
            let receipt = run.done_as(&ask, &[Outcome::NotFound]).await?;
            if receipt.records != 0 {
                return broken(format!("a receipt for nobody counts {} records", receipt.records));
            }
            run.expect(&dataset.name, &selector, Seen::Absent, "for a handle of nobody")
                .await?;
        }
    }
    Ok("not found, and absent".to_owned())
}

async fn erased_is_gone(run: &mut Run<'_>) -> Must {
    let person = run.person("ada").await?;
    let mut selectors = Vec::new();
    for dataset in run.datasets(&person, Verb::Erase) {
        let selector = run.selector(&person, &dataset).await?;
        run.expect(&dataset, &selector, Seen::Present, "before erasing")
            .await?;
        selectors.push((dataset, selector));
    }
    run.erase(&person).await?;
    for (dataset, selector) in &selectors {
        run.expect(dataset, selector, Seen::Absent, "after erasing")
            .await?;
    }
    for identifier in &person.identifiers {
        if run.fixture.holds(&identifier.value).await {
            return broken(format!(
                "an identifier ({}) still stands in the system",
                identifier.kind
            ));
        }
    }
    if !run.located(&person).await?.is_empty() {
        return broken("the person is still located");
    }
    Ok(format!("gone from {}", counted(selectors.len(), "dataset")))
}

async fn observation_looks(run: &mut Run<'_>) -> Must {
    let person = run.person("ada").await?;
    let dataset = run.dataset(&person, Verb::Erase)?;
    let selector = run.selector(&person, &dataset).await?;
    let ask = run.ask(&dataset, Verb::Erase, &selector);
    run.done(&ask).await?;
    run.expect(&dataset, &selector, Seen::Absent, "after erasing")
        .await?;
    run.again(&person).await?;
    run.expect(
        &dataset,
        &selector,
        Seen::Present,
        "after the person came back past the connector",
    )
    .await?;
    Ok("seen again".to_owned())
}

/// A value that only this record of the person shows.
fn own_value<'p>(person: &'p Planted, dataset: &DatasetName) -> Option<&'p Identifier> {
    let record = person.records.iter().find(|r| r.dataset == *dataset)?;
    record.identifiers.iter().find(|i| {
        person
            .records
            .iter()
            .filter(|r| r.dataset != *dataset)
            .all(|r| !r.identifiers.contains(i))
    })
}

async fn restricted_is_out_of_use(run: &mut Run<'_>) -> Must {
    let person = run.person("ada").await?;
    let datasets = run.datasets(&person, Verb::Restrict);
    if datasets.is_empty() {
        return Err(Miss::NotTried("no dataset of the person can restrict".to_owned()));
    }
    for dataset in &datasets {
        let selector = run.selector(&person, dataset).await?;
        let ask = run.ask(dataset, Verb::Restrict, &selector);
        run.done_as(&ask, &[Outcome::Restricted]).await?;
        run.expect(dataset, &selector, Seen::Restricted, "after restricting")
            .await?;
        let Some(value) = own_value(&person, dataset) else {
            continue;
        };
        if !run.fixture.holds(&value.value).await {
            return broken(format!("{dataset}: restricting removed the data"));
        }
        if run.fixture.in_ordinary_use(&value.value).await == Some(true) {
            return broken(format!("{dataset}: restricted data is still in ordinary use"));
        }
    }
    Ok(counted(datasets.len(), "dataset"))
}

async fn lifting_puts_back(run: &mut Run<'_>) -> Must {
    let person = run.person("ada").await?;
    let dataset = run.dataset(&person, Verb::Lift)?;
    let before = run.fixture.dump_of(&person).await;
    let selector = run.selector(&person, &dataset).await?;
    let restrict = run.ask(&dataset, Verb::Restrict, &selector);
    let restricted = run.done_as(&restrict, &[Outcome::Restricted]).await?;
    let lift = run.ask(&dataset, Verb::Lift, &selector);
    let lifted = run.done_as(&lift, &[Outcome::Lifted]).await?;
    if lifted.records != restricted.records {
        return broken(format!(
            "restricted {} records and lifted {}",
            restricted.records, lifted.records
        ));
    }
    run.expect(&dataset, &selector, Seen::Present, "after lifting")
        .await?;
    if run.fixture.dump_of(&person).await != before {
        return broken("the data is not as it was, or not where it was");
    }
    Ok("as it was".to_owned())
}

async fn older_lift(run: &mut Run<'_>) -> Must {
    if !run.connector().manifest().detects_repeats {
        return Err(Miss::NotTried(
            "the manifest says that nothing is remembered".to_owned(),
        ));
    }
    let person = run.person("ada").await?;
    let dataset = run.dataset(&person, Verb::Lift)?;
    let selector = run.selector(&person, &dataset).await?;
    let older = run.ask(&dataset, Verb::Lift, &selector);
    let newer = run.ask(&dataset, Verb::Restrict, &selector);
    run.done(&newer).await?;
    // Whatever it answers, the restriction must stand.
    let _ = run.connector().perform(&older).await;
    run.expect(&dataset, &selector, Seen::Restricted, "after an older lift")
        .await?;
    Ok("the restriction stands".to_owned())
}

async fn others_stay(run: &mut Run<'_>) -> Must {
    run.person("bob").await?;
    let person = run.person("ada").await?;
    let before = run.fixture.dump_others(&person).await;
    if let Ok(dataset) = run.dataset(&person, Verb::Restrict) {
        let selector = run.selector(&person, &dataset).await?;
        for verb in [Verb::Restrict, Verb::Lift] {
            let ask = run.ask(&dataset, verb, &selector);
            run.done(&ask).await?;
        }
    }
    run.erase(&person).await?;
    if run.fixture.dump_others(&person).await != before {
        return broken("somebody else's data changed");
    }
    Ok(format!("{} unchanged", counted(before.len(), "byte")))
}

fn count_by_dataset(person: &Planted, found: &[Observation]) -> Result<(), String> {
    for dataset in person.records.iter().map(|r| &r.dataset) {
        let (planted, located) = (
            person.records.iter().filter(|r| r.dataset == *dataset).count(),
            found.iter().filter(|o| o.dataset == *dataset && !o.gone).count(),
        );
        if planted != located {
            return Err(format!("{located} of {planted} records in {dataset} are found"));
        }
    }
    Ok(())
}

async fn every_identifier_finds(run: &mut Run<'_>) -> Must {
    let person = run.person("ada").await?;
    run.person("bob").await?;
    let kinds = run.connector().manifest().locates_by.clone();
    let mut tried = 0;
    let finds = |one: &&Identifier| kinds.iter().any(|kind| kind.covers(one));
    for identifier in person.identifiers.iter().filter(finds) {
        let selector = Selector {
            records: Vec::new(),
            identifiers: vec![identifier.clone()],
        };
        let found = run.locate(&selector).await?;
        count_by_dataset(&person, &found)
            .map_err(|why| Miss::Broken(format!("by {}, {why}", identifier.name())))?;
        if found.len() != person.records.len() {
            return broken(format!("by {}, somebody else is found too", identifier.name()));
        }
        tried += 1;
    }
    if tried == 0 {
        return broken("the manifest names no kind by which the person can be found");
    }
    Ok(counted(tried, "identifier"))
}

fn sorted(identifiers: &[Identifier]) -> BTreeSet<&Identifier> {
    identifiers.iter().collect()
}

/// Whether each planted record is among the observations, with every identifier that it holds.
pub(super) fn whole(person: &Planted, observations: &[Observation]) -> Result<(), String> {
    for record in &person.records {
        let same = |o: &&Observation| {
            o.dataset == record.dataset && sorted(&o.identifiers) == sorted(&record.identifiers)
        };
        if !observations.iter().any(|o| same(&o)) {
            return Err(format!(
                "a record of {} is missing or does not name all its {} identifiers",
                record.dataset,
                record.identifiers.len()
            ));
        }
    }
    Ok(())
}

async fn observations_are_whole(run: &mut Run<'_>) -> Must {
    let person = run.person("ada").await?;
    let found = run.located(&person).await?;
    whole(&person, &found).map_err(Miss::Broken)?;
    Ok(counted(found.len(), "record"))
}

async fn nothing_selected(run: &mut Run<'_>) -> Must {
    let nothing = Selector::default();
    let connector = run.connector();
    if connector.manifest().locates_by.is_empty() {
        return Err(Miss::NotTried("the system cannot be searched".to_owned()));
    }
    if !run.locate(&nothing).await?.is_empty() {
        return broken("locating nobody finds somebody");
    }
    let person = run.person("ada").await;
    for dataset in &connector.manifest().datasets {
        run.expect(&dataset.name, &nothing, Seen::Absent, "for nobody")
            .await?;
        // Without somebody whose loss would be synthetic, the question is too dangerous to ask.
        if person.is_err() {
            continue;
        }
        for verb in [Verb::Erase, Verb::Restrict]
            .iter()
            .filter(|v| dataset.verbs.contains(v))
        {
            let ask = run.ask(&dataset.name, *verb, &nothing);
            match run.connector().perform(&ask).await.map_err(failed(verb.code()))? {
                Performed::Done(receipt) if receipt.records > 0 => {
                    return broken(format!("{verb} of nobody touches {} records", receipt.records));
                }
                _ => {}
            }
        }
    }
    if let Ok(person) = person {
        let found = run.located(&person).await?;
        count_by_dataset(&person, &found)
            .map_err(|why| Miss::Broken(format!("after work for nobody, {why}")))?;
    }
    Ok("nobody is touched".to_owned())
}

/// Planted into everything that may go wrong.
const CANARY: &str = "canary.person@lethe-check.example";

async fn errors_are_clean(run: &mut Run<'_>) -> Must {
    let connector = run.connector();
    let manifest = connector.manifest();
    let mut said: Vec<String> = Vec::new();
    let error = |e: Error| format!("{e} {e:?}");
    let page = || Page(Some(CANARY.to_owned()));
    let selector = Selector {
        records: vec![
            Selected {
                handle: CANARY.to_owned(),
            },
            Selected {
                handle: format!("[\"{CANARY}\"]"),
            },
        ],
        identifiers: vec![Identifier::new(lethe_terms::IdentifierKind::Email, CANARY)],
    };
    said.extend(connector.locate(&selector, page()).await.err().map(error));
    said.extend(connector.export(&selector, page()).await.err().map(error));
    for shard in &manifest.shards {
        said.extend(connector.feed(shard, Some(CANARY), LIMIT).await.err().map(error));
    }
    for dataset in &manifest.datasets {
        said.extend(connector.observe(&dataset.name, &selector).await.err().map(error));
        let ask = run.ask(&dataset.name, Verb::Erase, &selector);
        said.push(match connector.perform(&ask).await {
            Err(e) => error(e),
            Ok(Performed::Refused { reason, .. }) => reason,
            Ok(Performed::Accepted { ticket, .. }) => ticket,
            Ok(Performed::Done(receipt)) => format!("{:?}", receipt.details),
        });
    }
    if said.iter().any(|text| text.contains(CANARY)) {
        return broken("a message quotes what was asked");
    }
    Ok(counted(said.len(), "message"))
}

async fn export_is_whole(run: &mut Run<'_>) -> Must {
    let person = run.person("ada").await?;
    run.dataset(&person, Verb::Export)?;
    let mut text = String::new();
    let mut page = Page::default();
    loop {
        let (values, next) = run
            .connector()
            .export(&by_identifiers(&person), page)
            .await
            .map_err(failed("export"))?;
        text.extend(values.iter().map(ToString::to_string));
        if next.0.is_none() {
            break;
        }
        page = next;
    }
    let exportable = run.datasets(&person, Verb::Export);
    let records = person.records.iter().filter(|r| exportable.contains(&r.dataset));
    for identifier in records.flat_map(|r| &r.identifiers) {
        if !text.contains(&identifier.value) {
            return broken(format!("an identifier ({}) is not handed out", identifier.kind));
        }
    }
    Ok(counted(text.len(), "byte"))
}

async fn check_touches_nothing(run: &mut Run<'_>) -> Must {
    let person = run.person("ada").await.ok();
    let mut before = String::new();
    if let Some(person) = &person {
        before = run.fixture.dump_others(person).await + &run.fixture.dump_of(person).await;
    }
    let findings = run.connector().check().await.map_err(failed("check"))?;
    if let Some(person) = &person {
        let after = run.fixture.dump_others(person).await + &run.fixture.dump_of(person).await;
        if before != after {
            return broken("the check changed data");
        }
    }
    match findings.iter().find(|f| !f.ok) {
        Some(finding) => broken(format!("{}: {}", finding.what, finding.detail)),
        None => Ok(format!("{}, all well", counted(findings.len(), "finding"))),
    }
}
