//! The ledger's writer, or a system's host, is killed in the middle of a case, and the one that stands by goes on where it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use lethe_journeys::company::{Company, LINES, PEOPLE};
use lethe_journeys::course::{Api, Course};
use lethe_journeys::server::{Home, Server, free_port, kafka, program};

/// How long a case may take although the ledger changes hands in it.
const CASE_TIME_MAX: Duration = Duration::from_secs(120);

/// Has a person restricted and the restriction lifted.
async fn restrict_and_lift(api: &Api, email: &str, key: &str) -> Course {
    let mut course = Course::new("restriction", email, key.to_owned());
    let whole = async {
        while !course.done {
            let _ = course.go_on(api).await;
        }
    };
    tokio::time::timeout(CASE_TIME_MAX, whole)
        .await
        .expect("the case ends");
    course
}

/// A company, the home of its server's processes, and the way to its API.
struct Office {
    company: Company,
    home: Home,
    api: Api,
    folder: tempfile::TempDir,
}

impl Office {
    async fn found(of: &str, seed: u64) -> Option<Self> {
        let kafka = kafka(of)?;
        let folder = tempfile::tempdir().unwrap();
        let company = Company::found(folder.path(), seed, PEOPLE, LINES).await;
        let port = free_port();
        let home = Home {
            program: program(),
            config: company.configure(port, &format!("feed_every_ms = 200\n{kafka}")),
            output: folder.path().join("output"),
            url: format!("http://127.0.0.1:{port}"),
        };
        std::fs::create_dir(folder.path().join("lethe")).unwrap();
        let api = Api::new(&home.url);
        Some(Self {
            company,
            home,
            api,
            folder,
        })
    }

    async fn listen(&self, servers: impl IntoIterator<Item = &mut Server>) {
        for server in servers {
            assert!(server.listens().await, "{}", self.home.last_words());
        }
    }

    async fn scan(&self) {
        for system in ["shop", "website"] {
            self.api.scan(system).await.unwrap();
        }
    }

    /// A case that goes on beside what else happens.
    fn case_beside(&self, key: &'static str) -> tokio::task::JoinHandle<Course> {
        let (url, email) = (self.home.url.clone(), self.company.world.colleague().email);
        tokio::spawn(async move { restrict_and_lift(&Api::new(&url), &email, key).await })
    }

    /// Every certificate is one of the same log.
    async fn verify(&self, courses: &[Course]) {
        let policy = self.folder.path().join("policy");
        std::fs::write(&policy, self.api.get("/v1/policy").await.unwrap()).unwrap();
        for course in courses {
            let id = course.id.as_deref().unwrap();
            let certificate = self.folder.path().join(id);
            let bytes = self
                .api
                .get(&format!("/v1/cases/{id}/certificate"))
                .await
                .unwrap();
            std::fs::write(&certificate, bytes).unwrap();
            let mut page = Vec::new();
            let code = lethe_verify::show(&certificate, Some(&policy), false, &mut page);
            assert_eq!(code, 0, "{}", String::from_utf8_lossy(&page));
        }
    }

    fn stop(&self, servers: impl IntoIterator<Item = Server>) {
        for server in servers {
            assert!(server.stop().success(), "{}", self.home.last_words());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_stands_by_takes_over_and_every_certificate_is_in_one_log() {
    let Some(office) = Office::found("standby", 41).await else {
        return;
    };
    let mut others = vec![
        office
            .home
            .start_as("connectors", &["connectors", "intake", "lineage"]),
        office.home.start_as("core", &["conductor", "gateway"]),
    ];
    let mut first = office.home.start_as("ledger-1", &["ledger"]);
    office.listen(others.iter_mut().chain([&mut first])).await;
    // A second ledger stands by.
    let mut second = office.home.start_as("ledger-2", &["ledger"]);
    office.listen([&mut second]).await;
    office.scan().await;
    let mut courses = vec![office.case_beside("before").await.unwrap()];
    let during = office.case_beside("during");
    let began = Instant::now();
    first.kill();
    courses.push(during.await.unwrap());
    println!("a case whose ledger was killed took {:?}", began.elapsed());
    courses.push(office.case_beside("after").await.unwrap());
    office.verify(&courses).await;
    // Whoever is asked about lineage goes last.
    office.stop([second].into_iter().chain(others.into_iter().rev()));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_system_has_a_host_of_its_own_and_another_one_takes_it_over() {
    let Some(office) = Office::found("hosts", 43).await else {
        return;
    };
    let home = &office.home;
    let mut others = vec![
        home.start_hosting("website", &["connectors", "lineage"], &["website"]),
        home.start_as("core", &["conductor", "gateway", "ledger"]),
    ];
    let mut first = home.start_hosting("shop-1", &["connectors"], &["shop"]);
    office.listen(others.iter_mut().chain([&mut first])).await;
    office.scan().await;
    let second = home.start_hosting("shop-2", &["connectors"], &["shop"]);
    let mut courses = vec![office.case_beside("before").await.unwrap()];
    let during = office.case_beside("during");
    let began = Instant::now();
    first.kill();
    courses.push(during.await.unwrap());
    println!("a case one of whose hosts was killed took {:?}", began.elapsed());
    courses.push(office.case_beside("after").await.unwrap());
    office.verify(&courses).await;
    // Whoever is asked about lineage goes last.
    office.stop([second].into_iter().chain(others.into_iter().rev()));
}
