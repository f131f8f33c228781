//! A small company whose server is several processes.

use std::time::Duration;

use lethe_journeys::company::{Company, LINES, PEOPLE};
use lethe_journeys::course::{Api, Course};
use lethe_journeys::server::{Home, Server, free_port, kafka, program};

/// How long a case or a scan may take although who does it changes in it.
const CASE_TIME_MAX: Duration = Duration::from_secs(120);

/// Has a person restricted and the restriction lifted.
pub(crate) async fn restrict_and_lift(api: &Api, email: &str, key: &str) -> Course {
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
pub(crate) struct Office {
    pub(crate) company: Company,
    pub(crate) home: Home,
    pub(crate) api: Api,
    pub(crate) folder: tempfile::TempDir,
}

impl Office {
    pub(crate) async fn found(of: &str, seed: u64) -> Option<Self> {
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

    pub(crate) async fn listen(&self, servers: impl IntoIterator<Item = &mut Server>) {
        for server in servers {
            assert!(server.listens().await, "{}", self.home.last_words());
        }
    }

    /// Everything is scanned, and of two processes the first writes the ledger and the second stands by; who does the rest comes first.
    pub(crate) async fn with_two_ledgers(&self) -> (Vec<Server>, Server, Server) {
        let mut others = vec![
            self.home
                .start_as("connectors", &["connectors", "intake", "lineage"]),
            self.home.start_as("core", &["conductor", "gateway"]),
        ];
        let mut first = self.home.start_as("ledger-1", &["ledger"]);
        self.listen(others.iter_mut().chain([&mut first])).await;
        let mut second = self.home.start_as("ledger-2", &["ledger"]);
        self.listen([&mut second]).await;
        self.scan().await;
        (others, first, second)
    }

    /// Everything is scanned, and two conductors share the cases; who does the rest comes first.
    pub(crate) async fn with_two_conductors(&self) -> (Vec<Server>, Server, Server) {
        let mut others = vec![
            self.home.start_as("hosts", &["connectors", "intake", "lineage"]),
            self.home.start_as("core", &["ledger", "gateway"]),
        ];
        let mut first = self.home.start_as("conductor-1", &["conductor"]);
        let mut second = self.home.start_as("conductor-2", &["conductor"]);
        self.listen(others.iter_mut().chain([&mut first, &mut second]))
            .await;
        self.scan().await;
        (others, first, second)
    }

    pub(crate) async fn scan(&self) {
        for system in ["shop", "website"] {
            let scan = tokio::time::timeout(CASE_TIME_MAX, self.api.scan(system));
            scan.await.expect("the scan ends").unwrap();
        }
    }

    /// A case that goes on beside what else happens.
    pub(crate) fn case_beside(&self, key: &'static str) -> tokio::task::JoinHandle<Course> {
        let (url, email) = (self.home.url.clone(), self.company.world.colleague().email);
        tokio::spawn(async move { restrict_and_lift(&Api::new(&url), &email, key).await })
    }

    /// Every certificate is one of the same log.
    pub(crate) async fn verify(&self, courses: &[Course]) {
        let cases = courses.iter().map(|course| course.id.as_deref().unwrap());
        self.verify_cases(cases).await;
    }

    /// As [`Self::verify`], by the ids of the cases.
    pub(crate) async fn verify_cases(&self, cases: impl Iterator<Item = &str>) {
        let policy = self.folder.path().join("policy");
        std::fs::write(&policy, self.api.get("/v1/policy").await.unwrap()).unwrap();
        for id in cases {
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

    pub(crate) fn stop(&self, servers: impl IntoIterator<Item = Server>) {
        for server in servers {
            assert!(server.stop().success(), "{}", self.home.last_words());
        }
    }
}
