//! The suite of the EventLog port on every implementation that runs without a server.

mod memory {
    use lethe_conformance::event_log::MemoryLogs;

    lethe_conformance::event_log_suite!(MemoryLogs);
}

mod embedded_in_a_folder {
    use lethe_conformance::event_log::FolderLogs;

    lethe_conformance::event_log_suite!(FolderLogs::default());
}

mod embedded_on_files_that_lose_power {
    use lethe_conformance::event_log::PowerLossLogs;

    lethe_conformance::event_log_suite!(PowerLossLogs::default());
}
