//! `lethe case ...`.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use lethe_gateway::asks::{CLOSE_REASONS, CaseQuery, Close, Ground, Lift, OpenCase};
use lethe_gateway::client::Client;
use lethe_gateway::views::{CasePage, CaseView, PlanView, RemarkView};
use lethe_gateway::words::{self, Move};
use lethe_terms::{CaseId, CaseState, Right, StepState, Timestamp};

use super::args::{ApproveArgs, CaseCommand, CloseArgs, ListArgs, OpenArgs, WaitArgs, WaitedArgs};
use super::exit::{Error, Exit};
use super::identifiers;
use super::talk::{Talk, table};
use super::wait::{self, Goal};

/// Carries out a command on cases. What a server that is cut off from its log knows of them is shown, and is no answer.
pub(super) async fn run(client: &Client, command: CaseCommand, talk: &mut Talk<'_>) -> Result<Exit, Error> {
    let exit = carry_out(client, command, talk).await?;
    Ok(match words::aged(client.cases_age()) {
        Some(aged) => {
            talk.say(&format!("cases are {aged}"));
            Exit::Unknown
        }
        None => exit,
    })
}

async fn carry_out(client: &Client, command: CaseCommand, talk: &mut Talk<'_>) -> Result<Exit, Error> {
    match command {
        CaseCommand::Open(args) => open(client, args, talk).await,
        CaseCommand::List(args) => list(client, args, talk).await,
        CaseCommand::Show(args) => {
            let case = client.case(args.id).await?;
            settle(client, &case, Goal::Rest(None), &args.waiting, talk).await
        }
        CaseCommand::Plan(args) => plan(client, args.id, talk).await,
        CaseCommand::Approve(args) => approve(client, args, talk).await,
        CaseCommand::Withdraw(args) => withdraw(client, args, talk).await,
        CaseCommand::Lift(args) => {
            let before = client.case(args.id).await?;
            client
                .lift(
                    args.id,
                    Lift {
                        notified_at: args.notified_at,
                    },
                )
                .await?;
            changed(client, &before, &args.waiting, talk).await
        }
        CaseCommand::Replan(args) => {
            let before = client.case(args.id).await?;
            client.replan(args.id).await?;
            changed(client, &before, &args.waiting, talk).await
        }
        CaseCommand::Close(args) => close(client, args, talk).await,
        CaseCommand::Certificate(args) => {
            let certificate = client.certificate(args.id, args.certificate.as_deref()).await?;
            talk.bytes(&certificate, args.out.out.as_deref())?;
            if let Some(file) = args.out.out {
                talk.say(&format!(
                    "verify with: lethe verify {} --policy POLICY",
                    file.display()
                ));
            }
            Ok(Exit::Yes)
        }
        CaseCommand::Opening(args) => {
            let opening = client.opening(args.id).await?;
            talk.private(&opening, args.out.out.as_deref())?;
            Ok(Exit::Yes)
        }
    }
}

async fn approve(client: &Client, args: ApproveArgs, talk: &mut Talk<'_>) -> Result<Exit, Error> {
    let before = client.case(args.id).await?;
    client.approve(args.id, args.plan.clone()).await?;
    let exit = changed(client, &before, &args.waiting, talk).await?;
    if !args.waiting.wait {
        return Ok(exit);
    }
    let after = client.case(args.id).await?;
    if after.state == CaseState::AwaitingApproval && after.plan_digest.as_ref() != Some(&args.plan) {
        talk.say("not carried out: the systems hold something else than when this was planned, so it was planned again and waits for another approval");
        return Ok(Exit::No);
    }
    Ok(exit)
}

async fn plan(client: &Client, id: CaseId, talk: &mut Talk<'_>) -> Result<Exit, Error> {
    let plan = client.plan(id).await?;
    if talk.json {
        talk.data(&plan)?;
        return Ok(Exit::Yes);
    }
    let case = client.case(id).await?;
    talk.print(&plan_text(&plan, case.supersedes))?;
    if case.plan_digest.as_ref() == Some(&plan.digest) && words::moves(&case).contains(&Move::Approve) {
        talk.say(&format!(
            "approve with: lethe case approve {id} --plan {}",
            plan.digest
        ));
    }
    Ok(Exit::Yes)
}

async fn open(client: &Client, args: OpenArgs, talk: &mut Talk<'_>) -> Result<Exit, Error> {
    let right: Right = args
        .right
        .parse()
        .map_err(|error: lethe_terms::UnknownWord| Error::Usage {
            expected: format!("a right: one of {}", error.known),
        })?;
    if let Some(ground) = &args.ground {
        Ground::of(right, ground).map_err(|expected| Error::Usage { expected })?;
    }
    let ask = OpenCase {
        right,
        identifiers: identifiers::read(&args.identifiers, &mut std::io::stdin().lock())?,
        ground: args.ground,
        supersedes: args.supersedes,
        received_at: args.received_at,
    };
    let accepted = client.open_case(&ask).await?;
    if args.waiting.wait {
        talk.say(&format!("opened {}", accepted.case));
    }
    let case = client.case(accepted.case).await?;
    settle(client, &case, Goal::Rest(None), &args.waiting, talk).await
}

async fn withdraw(client: &Client, args: WaitedArgs, talk: &mut Talk<'_>) -> Result<Exit, Error> {
    let before = client.case(args.id).await?;
    client.withdraw(args.id).await?;
    let exit = changed(client, &before, &args.waiting, talk).await?;
    // Here this is what was wanted.
    let case = client.case(args.id).await?;
    Ok(if case.state == CaseState::Withdrawn {
        Exit::Yes
    } else {
        exit
    })
}

async fn close(client: &Client, args: CloseArgs, talk: &mut Talk<'_>) -> Result<Exit, Error> {
    let reason = CLOSE_REASONS
        .iter()
        .find(|(_, code, _)| *code == args.reason)
        .map(|(reason, _, _)| *reason);
    let reason = reason.ok_or_else(|| Error::Usage {
        expected: "a known reason".to_owned(),
    })?;
    let before = client.case(args.id).await?;
    client.close(args.id, Close { reason }).await?;
    // It needs attention until its statement is signed.
    settle(client, &before, Goal::End, &args.waiting, talk).await
}

/// Settles a case that a command was given for.
async fn changed(
    client: &Client,
    before: &CaseView,
    waiting: &WaitArgs,
    talk: &mut Talk<'_>,
) -> Result<Exit, Error> {
    settle(client, before, Goal::Rest(Some(before.revision)), waiting, talk).await
}

/// Waits where that is asked for, then shows the case and says what can be done next.
async fn settle(
    client: &Client,
    known: &CaseView,
    goal: Goal,
    waiting: &WaitArgs,
    talk: &mut Talk<'_>,
) -> Result<Exit, Error> {
    if !waiting.wait {
        let case = match goal {
            Goal::Rest(None) => known.clone(),
            Goal::Rest(Some(_)) | Goal::End => client.case(known.id).await?,
        };
        show(client, &case, talk).await?;
        return Ok(Exit::Yes);
    }
    match wait::until(client, known.id, goal, waiting, talk).await? {
        Some(case) => {
            show(client, &case, talk).await?;
            Ok(wait::exit(case.state))
        }
        None => {
            let case = client.case(known.id).await?;
            show(client, &case, talk).await?;
            talk.say(&format!(
                "still open after {} s: how it ends is not known yet",
                waiting.timeout
            ));
            Ok(Exit::Unknown)
        }
    }
}

async fn show(client: &Client, case: &CaseView, talk: &mut Talk<'_>) -> Result<(), Error> {
    if talk.json {
        return talk.data(case);
    }
    talk.print(&case_text(case))?;
    for attention in &case.attention {
        let place = attention
            .dataset
            .as_ref()
            .map(|dataset| format!(" / {dataset}"))
            .unwrap_or_default();
        let (system, code) = (&attention.system, &attention.code);
        let what = if case.state.is_ended() {
            "fell short"
        } else {
            "look at"
        };
        talk.say(&format!(
            "{what}: {system}{place}, {code}, see ops/errors/{code}.md"
        ));
    }
    if case.acting().next().is_none() && case.plan_digest.is_some() {
        talk.say("nothing was found under these identifiers: look whether they are spelled as the person spells them");
    }
    if let Some(holder) = case.steps.iter().find_map(|step| step.held_by) {
        talk.say(&format!("held: {holder} restricts the data, and nothing is done to it until that is lifted; an erasure that the person wants in its place is opened with --supersedes {holder}"));
    }
    if !case.rests() {
        // Who cannot say how the systems stand has still shown the case.
        let systems = client
            .systems()
            .await
            .map_or_else(|_| Vec::new(), |list| list.systems);
        for line in words::waits_for_systems(case, &systems) {
            talk.say(&line);
        }
    }
    for line in next(case) {
        talk.say(&line);
    }
    Ok(())
}

/// What to type next.
fn next(case: &CaseView) -> Vec<String> {
    let id = case.id;
    let mut lines: Vec<String> = words::moves(case)
        .into_iter()
        .map(|item| match item {
            Move::Approve => {
                let digest = case.plan_digest.as_deref().unwrap_or("DIGEST");
                format!("read the plan with: lethe case plan {id}\napprove with: lethe case approve {id} --plan {digest}")
            }
            Move::Withdraw => {
                let what = words::withdraw(case).to_lowercase();
                format!("{what} with: lethe case withdraw {id}")
            }
            Move::Lift => format!("lift with: lethe case lift {id} --notified-at TIME"),
            Move::Replan => format!("plan again with: lethe case replan {id}"),
            Move::Close => format!("close as not completed with: lethe case close {id} --reason REASON"),
        })
        .collect();
    if case.certificate.is_some() {
        lines.push(format!(
            "fetch the proof with: lethe case certificate {id} --out FILE"
        ));
    }
    lines
}

fn now() -> Timestamp {
    let millis = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

fn case_text(case: &CaseView) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<13}{value}");
    };
    line("case", &case.id.to_string());
    line("right", &words::right(case.right).to_lowercase());
    if let Some(ground) = &case.ground {
        line("ground", &words::norm(ground));
    }
    line("state", words::standing(case));
    for flag in &case.flags {
        line("", words::flag(*flag));
    }
    if let Some(restriction) = &case.supersedes {
        line("supersedes", &format!("the restriction {restriction}"));
    }
    if let Some((what, erasure, rest)) = words::given_up(case) {
        line("", &format!("{what}{erasure}{rest}"));
    }
    line("received", &case.received_at.minute());
    let due = case.due.day();
    line(
        "due",
        &if case.state.is_ended() {
            due
        } else {
            format!("{due} ({})", words::due(case, now()))
        },
    );
    if let Some(back) = &case.resurrection {
        line(
            "origin",
            &format!("data came back in {} that {} had erased", back.system, back.of),
        );
    }
    if let Some(digest) = &case.plan_digest {
        line("plan", digest);
    }
    if let Some(gap) = case.gap {
        line("lineage gap", &words::counted(gap, "record"));
    }
    for (number, issued) in case.certificates.iter().rev().enumerate() {
        let name = if number == 0 { "certificate" } else { "earlier" };
        let (about, at) = (words::issued(issued), issued.issued_at.minute());
        line(name, &format!("{}  {about}, {at}", issued.certificate));
    }
    text.push_str(&steps_text(case));
    if let Some(earlier) = words::earlier(case) {
        let _ = writeln!(text, "{earlier}");
    }
    text.push_str(&remarks_text(&case.remarks));
    text
}

fn steps_text(case: &CaseView) -> String {
    if case.steps.is_empty() {
        return String::new();
    }
    let short = case.looks().filter(|step| step.state == StepState::Failed);
    let rows: Vec<Vec<String>> = case
        .acting()
        .chain(short)
        .map(|step| {
            let code = step
                .code
                .as_ref()
                .map(|code| format!(" ({code})"))
                .unwrap_or_default();
            vec![
                step.system.clone(),
                step.dataset.clone(),
                words::verb(step.verb).to_owned(),
                words::grouped(step.records),
                format!("{}{code}", words::step_state(step, case.state)),
            ]
        })
        .collect();
    let mut text = String::from("\n");
    if !rows.is_empty() {
        text.push_str(&table(&["system", "dataset", "verb", "records", "state"], &rows));
    }
    if case.looks().next().is_some() {
        let _ = writeln!(text, "{}", words::looks(case));
    }
    for step in &case.steps {
        if let Some(waits) = words::in_progress(step, now()) {
            let _ = writeln!(text, "{} / {}: {waits}", step.system, step.dataset);
        }
    }
    text
}

fn remarks_text(remarks: &[RemarkView]) -> String {
    let mut text = String::new();
    for remark in remarks {
        let weight = if remark.fatal {
            "leaves data behind"
        } else {
            "remark"
        };
        let _ = writeln!(
            text,
            "{weight}: {} {} ({})",
            words::remarked(remark),
            words::remark(remark),
            remark.code
        );
    }
    if text.is_empty() {
        text
    } else {
        format!("\n{text}")
    }
}

fn looks_text(plan: &PlanView) -> String {
    let places: Vec<String> = plan
        .looks()
        .map(|step| format!("{} / {}", step.system, step.dataset))
        .collect();
    if places.is_empty() {
        return String::new();
    }
    let places = places.join(", ");
    format!("nothing found, and looked at once the rest is done: {places}\n")
}

fn plan_text(plan: &PlanView, supersedes: Option<CaseId>) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "case    {}", plan.case);
    if let Some(restriction) = supersedes {
        let _ = writeln!(text, "        supersedes the restriction {restriction}");
    }
    let _ = writeln!(
        text,
        "plan    number {}, frozen {}",
        plan.number,
        plan.frozen_at.minute()
    );
    let _ = writeln!(text, "digest  {}", plan.digest);
    match plan.ledger_index {
        Some(index) => {
            let _ = writeln!(text, "ledger  index {index}");
        }
        None => text.push_str("ledger  not yet\n"),
    }
    let rows: Vec<Vec<String>> = plan
        .acting()
        .map(|step| {
            let after: Vec<String> = step.after.iter().map(u32::to_string).collect();
            let ways: Vec<String> = step.reached.iter().map(|way| words::path(&way.path)).collect();
            vec![
                step.step.to_string(),
                step.system.clone(),
                step.dataset.clone(),
                words::verb(step.verb).to_owned(),
                words::grouped(step.records),
                if after.is_empty() {
                    "-".to_owned()
                } else {
                    after.join(" ")
                },
                ways.join("; or "),
            ]
        })
        .collect();
    text.push('\n');
    text.push_str(&table(
        &[
            "step",
            "system",
            "dataset",
            "verb",
            "records",
            "after",
            "reached by",
        ],
        &rows,
    ));
    text.push_str(&looks_text(plan));
    for kept in &plan.exceptions {
        let until = kept.until.day();
        let _ = writeln!(
            text,
            "kept until {until}: {} / {}, {}",
            kept.system,
            kept.dataset,
            words::norm(&kept.norm)
        );
    }
    text.push_str(&remarks_text(&plan.remarks));
    text
}

async fn list(client: &Client, args: ListArgs, talk: &mut Talk<'_>) -> Result<Exit, Error> {
    let unknown = |error: lethe_terms::UnknownWord| Error::Usage {
        expected: format!("one of {}", error.known),
    };
    let query = CaseQuery {
        state: args.state.map(|word| word.parse()).transpose().map_err(unknown)?,
        right: args.right.map(|word| word.parse()).transpose().map_err(unknown)?,
        overdue: args.overdue,
        waiting: args.waiting,
        page: args.page,
        limit: args.limit,
    };
    let page: CasePage = client.cases(&query).await?;
    if talk.json {
        talk.data(&page)?;
        return Ok(Exit::Yes);
    }
    let rows: Vec<Vec<String>> = page
        .cases
        .iter()
        .map(|case| {
            let acting = case.acting().count();
            let verified = case
                .acting()
                .filter(|step| step.state == StepState::Verified)
                .count();
            vec![
                case.id.to_string(),
                words::right(case.right).to_lowercase(),
                words::standing(case).to_owned(),
                if acting == 0 {
                    "-".to_owned()
                } else {
                    format!("{verified} of {acting}")
                },
                case.received_at.day(),
                format!("{} ({})", case.due.day(), words::due(case, now())),
            ]
        })
        .collect();
    talk.print(&table(
        &["case", "right", "state", "steps done", "received", "due"],
        &rows,
    ))?;
    talk.say(&format!(
        "{} of {}",
        page.cases.len(),
        words::counted(page.total, "case")
    ));
    let overdue = page
        .cases
        .iter()
        .filter(|case| words::overdue(case, now()).is_some());
    let overdue = overdue.count() as u64;
    if overdue > 0 {
        talk.say(&format!(
            "OVERDUE: the answer of {}",
            words::counted(overdue, "case")
        ));
    }
    if let Some(next) = page.next {
        talk.say(&format!("more with: lethe case list --page {next}"));
    }
    Ok(Exit::Yes)
}
