//! A system whose connector is a program in Python: found, restricted, lifted, erased and certified; killed in the middle, and nothing is done twice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

#[path = "../../../connectors/remote/tests/common/mod.rs"]
mod common;

use common::meddler::{Meddler, Meddling};
use common::{Program, SECRET, database, python, python_with_kafka, secret_file};
use lethe_journeys::office::{ADA, BOB, Office};
use lethe_journeys::server::kafka;
use lethe_kit::memory::MemoryConnector;
use lethe_node::cli::Exit;
use lethe_remote::webhook::Keys;
use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{AssertSqlSafe, Executor, Row};

/// How the program answers instructions.
#[derive(Debug, Clone, Copy)]
enum Answers {
    AtOnce,
    /// With a ticket, and asked again in a moment.
    Later,
    /// With a ticket that is asked for in ten minutes, unless it calls back.
    CallsBack,
    /// With a ticket, and over topics of Kafka.
    OverKafka,
}

/// An office that keeps its contacts in a file behind the example program.
struct Contacts {
    python: String,
    folder: tempfile::TempDir,
    program: Program,
    meddler: Meddler,
    file: SqlitePool,
    office: Office,
}

impl Contacts {
    /// Ada has two contacts there and Bob one, and Lethe has read all of them.
    async fn open(answers: Answers) -> Option<Self> {
        if matches!(answers, Answers::OverKafka) {
            Self::over_kafka().await
        } else {
            Self::called(answers).await
        }
    }

    /// The program asks for its work itself.
    async fn over_kafka() -> Option<Self> {
        let (python, kafka) = (python_with_kafka()?, kafka("remote")?);
        let folder = tempfile::tempdir().unwrap();
        let kafka: toml::Table = toml::from_str(&kafka).unwrap();
        let of_kafka = |name: &str| kafka["kafka"][name].as_str().unwrap().to_owned();
        let (bootstrap, prefix) = (of_kafka("bootstrap"), of_kafka("topic_prefix"));
        let broker = [
            "--system",
            "contacts",
            "--bootstrap",
            &bootstrap,
            "--topic-prefix",
            &prefix,
            "--later",
        ];
        let program = Program::over_kafka(&python, folder.path(), &broker);
        let system = format!(
            "[[systems]]\nname = \"contacts\"\nkind = \"remote\"\nover = \"kafka\"\nsecret_file = \"{}\"\ndatasets = [\"contacts\"]\n{kafka}",
            secret_file(folder.path()).display()
        );
        let office = Office::found(MemoryConnector::new("chat").unwrap()).and(&system);
        Some(Self::filled(python, folder, program, Meddler::before(0).await, office).await)
    }

    /// The program is called by HTTP.
    async fn called(answers: Answers) -> Option<Self> {
        let python = python()?;
        let folder = tempfile::tempdir().unwrap();
        let meddler = Meddler::before(0).await;
        let system = format!(
            "[[systems]]\nname = \"contacts\"\nkind = \"remote\"\nurl = \"http://127.0.0.1:{}/\"\nsecret_file = \"{}\"\ndatasets = [\"contacts\"]\n",
            meddler.port,
            secret_file(folder.path()).display()
        );
        let office = Office::found(MemoryConnector::new("chat").unwrap()).and(&system);
        let callback = format!("{}/v1/callbacks/contacts", office.url);
        let more: &[&str] = match answers {
            Answers::Later => &["--later"],
            Answers::CallsBack => &["--later", "--callback", &callback],
            _ => &[],
        };
        let program = Program::start(
            &python,
            folder.path(),
            &[&["--system", "contacts"], more].concat(),
        );
        meddler.leads_to(program.port);
        Some(Self::filled(python, folder, program, meddler, office).await)
    }

    /// Puts people into the file, starts the server, and waits until it has read everything.
    async fn filled(
        python: String,
        folder: tempfile::TempDir,
        program: Program,
        meddler: Meddler,
        mut office: Office,
    ) -> Self {
        let options = SqliteConnectOptions::new().filename(database(folder.path()));
        let file = SqlitePool::connect_with(options).await.unwrap();
        let rows = format!(
            "insert into contacts (id, name, email, note) values
             ('c-1', 'Ada', '{ADA}', 'met at a fair'), ('c-2', 'A. Lovelace', ' {}', ''), ('c-3', 'Bob', '{BOB}', 'asks often')",
            ADA.to_uppercase()
        );
        file.execute(AssertSqlSafe(rows)).await.unwrap();
        office.start().await;
        for system in ["crm", "chat", "contacts"] {
            office.scan(system).await;
        }
        Self {
            python,
            folder,
            program,
            meddler,
            file,
            office,
        }
    }

    async fn text(&self, query: &str) -> String {
        let rows = self
            .file
            .fetch_all(AssertSqlSafe(query.to_owned()))
            .await
            .unwrap();
        rows.iter()
            .map(|row| row.get::<String, _>(0))
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Plans a case about Ada, approves it, and waits for its end.
    async fn case(&self, right: &str) -> Value {
        let open = format!("case open --right {right} --identifier email={ADA} --wait");
        let (_, planned) = self.office.json(&open).await;
        assert_eq!(planned["state"], "awaiting_approval", "{planned:#}");
        let (id, digest) = (
            planned["id"].as_str().unwrap(),
            planned["plan_digest"].as_str().unwrap(),
        );
        let (_, case) = self
            .office
            .json(&format!("case approve {id} --plan {digest} --wait"))
            .await;
        assert_eq!(case["state"], "completed", "{case:#}");
        case
    }

    async fn close(mut self) {
        self.office.close().await;
        self.file.close().await;
    }
}

/// The step of the remote system.
fn step(case: &Value) -> &Value {
    let steps = case["steps"].as_array().unwrap();
    steps.iter().find(|step| step["system"] == "contacts").unwrap()
}

/// Verifies the statement of a case as an auditor does.
async fn verified(office: &Office, id: &str) -> (u8, Value) {
    let (statement, policy) = office.statement(id).await;
    let mut json = Vec::new();
    let code = lethe_verify::show(&statement, Some(&policy), true, &mut json);
    (code, serde_json::from_slice(&json).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_in_a_remote_system_is_found_restricted_lifted_erased_and_certified() {
    for answers in [
        Answers::AtOnce,
        Answers::Later,
        Answers::CallsBack,
        Answers::OverKafka,
    ] {
        let Some(contacts) = Contacts::open(answers).await else {
            continue;
        };
        let office = &contacts.office;
        let (exit, out, err) = office.lethe("connector check contacts").await;
        assert_eq!(exit, Exit::Yes, "{out}{err}");
        let bob =
            "select id || name || email || note || coalesce(restricted, '') from contacts where id = 'c-3'";
        let before = contacts.text(bob).await;

        let restricted = contacts.case("restriction").await;
        assert_eq!(
            (&step(&restricted)["records"], &step(&restricted)["observed"]),
            (&2.into(), &"restricted".into())
        );
        assert_eq!(contacts.text("select id from contacts_in_use").await, "c-3");
        let id = restricted["id"].as_str().unwrap();
        let told = restricted["received_at"].as_str().unwrap();
        let (_, lifted) = office
            .json(&format!("case lift {id} --notified-at {told} --wait"))
            .await;
        assert_eq!(
            (&lifted["state"], &lifted["flags"]),
            (&"completed".into(), &Value::Array(Vec::new())),
            "{lifted:#}"
        );
        assert_eq!(
            contacts.text("select id from contacts_in_use order by id").await,
            "c-1 c-2 c-3"
        );

        let erased = contacts.case("erasure").await;
        assert_eq!(
            (
                &step(&erased)["outcome"],
                &step(&erased)["records"],
                &step(&erased)["observed"]
            ),
            (&"erased".into(), &2.into(), &"absent".into()),
            "{erased:#}"
        );
        assert_eq!(contacts.text("select id from contacts").await, "c-3");
        assert_eq!(contacts.text(bob).await, before);
        let (code, report) = verified(office, erased["id"].as_str().unwrap()).await;
        assert_eq!(code, 0, "{report:#}");
        let systems = report["systems"].as_array().unwrap();
        let row = systems.iter().find(|row| row["system"] == "contacts").unwrap();
        assert_eq!(
            (&row["reported"], &row["independence"]),
            (&"erased".into(), &"separate_connection".into())
        );
        contacts.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_that_is_not_the_systems_asks_nothing() {
    let Some(contacts) = Contacts::open(Answers::Later).await else {
        return;
    };
    let erased = contacts.case("erasure").await;
    let instruction = contacts.text("select instruction from lethe_receipts").await;
    let now_s = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let own = Keys::parse(SECRET).unwrap();
    let others = Keys::parse("whsec_bGV0aGUtb3RoZXJzLWxldGhlLW90aGVycw==").unwrap();
    for (keys, at_s, system, status, code) in [
        (&others, now_s, "contacts", 422, "remote-signature"),
        (&own, now_s - 3_600, "contacts", 422, "remote-signature"),
        (&own, now_s, "crm", 404, "gateway-not-found"),
        // Of a step that is reported there is nothing to ask.
        (&own, now_s, "contacts", 404, "gateway-not-found"),
    ] {
        let headers = keys.sign(&instruction, at_s, b"{}");
        let answer = reqwest::Client::new()
            .post(format!(
                "{}/v1/callbacks/{system}/{instruction}",
                contacts.office.url
            ))
            .header("webhook-id", headers.id)
            .header("webhook-timestamp", headers.timestamp)
            .header("webhook-signature", headers.signature)
            .body("{}")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), status);
        let problem: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!(problem["code"], code, "{problem:#}");
    }
    let (_, case) = contacts
        .office
        .json(&format!("case show {}", erased["id"].as_str().unwrap()))
        .await;
    assert_eq!(
        case["revision"], erased["revision"],
        "something was noted in the case"
    );
    contacts.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_killed_before_it_answers_leaves_its_step_unknown_and_acts_once() {
    let Some(mut contacts) = Contacts::open(Answers::AtOnce).await else {
        return;
    };
    let (id, digest) = contacts.office.planned_erasure().await;
    contacts.meddler.set(Meddling::LosesNextPerformAndHangsUp);
    let (exit, _, err) = contacts
        .office
        .lethe(&format!("case approve {id} --plan {digest}"))
        .await;
    assert_eq!(exit, Exit::Yes, "{err}");
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(20));
    while contacts.meddler.meddling() != Meddling::HangsUp {
        looks.tick().await;
    }
    contacts.program.kill();
    let (_, case) = contacts.office.json(&format!("case show {id}")).await;
    assert_eq!(
        (&step(&case)["state"], &step(&case)["outcome"]),
        (&"dispatched".into(), &Value::Null),
        "{case:#}"
    );
    assert_eq!(
        contacts.text("select id from contacts").await,
        "c-3",
        "it took effect"
    );

    // Ada comes back meanwhile: who acts a second time takes her away again.
    let back =
        format!("insert into contacts (id, name, email, note) values ('c-1', 'Ada', '{ADA}', 'again')");
    contacts.file.execute(AssertSqlSafe(back)).await.unwrap();
    contacts.program = Program::start(
        &contacts.python,
        contacts.folder.path(),
        &["--system", "contacts"],
    );
    contacts.meddler.leads_to(contacts.program.port);
    contacts.meddler.set(Meddling::None);
    let (_, case) = contacts.office.json(&format!("case show {id} --wait")).await;
    assert_eq!(
        (&step(&case)["outcome"], &step(&case)["records"]),
        (&"erased".into(), &2.into()),
        "{case:#}"
    );
    assert_eq!(
        contacts.text("select id from contacts order by id").await,
        "c-1 c-3"
    );
    assert_eq!(
        contacts
            .text("select cast(count(*) as text) from lethe_receipts")
            .await,
        "1"
    );
    assert_eq!(
        case["state"], "needs_attention",
        "what was observed contradicts the receipt: {case:#}"
    );
    contacts.close().await;
}
