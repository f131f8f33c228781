use std::path::Path;

use lethe_conductor::Refused;
use lethe_journal::{CaseOrigin, Opening};
use lethe_log::EmbeddedLog;
use lethe_terms::{CommandId, ErasureGround, Right};

use super::*;
use crate::inventories::Inventories;
use crate::lineage::{Lineage, Owners};
use crate::log::Log;
use crate::nothing_known::NothingKnown;
use crate::publish;
use crate::test_world::{World, config, keys_on};

/// A conductor that shares the cases with those that have the same folder of positions, and whose group gives it all.
async fn conductor(
    world: &World,
    positions: &Path,
    folder: &Path,
) -> (watch::Sender<BTreeSet<u16>>, ConductorShell) {
    let (gets, assigned) = watch::channel(BTreeSet::new());
    let share = Share::given(assigned, positions);
    gets.send_replace((0..Stream::Cases.partitions()).collect());
    let config = config();
    let log: Arc<dyn EventLog> = Arc::clone(&world.log) as _;
    let owners = Arc::new(Owners::none(folder));
    let lineage = Arc::new(Lineage::new(Arc::clone(&log), owners, None));
    let board = Arc::new(Board::new(&[], Vec::new(), BTreeMap::new()));
    let inventories = Arc::new(Inventories::new(Arc::clone(&board)));
    let intake = world.intake(Arc::new(NothingKnown));
    let own = EmbeddedLog::open(&folder.join("log"), &[Stream::Records], Default::default()).unwrap();
    let shell = ConductorShell {
        keys: CaseKeys::new(
            Arc::clone(&world.vault) as _,
            Arc::clone(&log),
            Arc::clone(&lineage),
        ),
        share,
        cluster: Cluster::open(Log::Embedded(Arc::new(own)), Vec::new(), 1).await,
        answering: Arc::new(Answering::new(true)),
        cases: Cases::of(Conductor::new(config.clone(), board.inventory())),
        inventory: inventories.changes(),
        walks: Mutex::default(),
        stands: Stands::default(),
        walker: Arc::new(Walker {
            lineage,
            intake: Arc::clone(&intake),
            inventories,
        }),
        log,
        intake,
        config,
        board,
    };
    (gets, shell)
}

#[tokio::test(start_paused = true)]
async fn a_conductor_that_was_taken_over_refuses_nothing_by_what_it_knew_before() {
    let (world, positions) = (World::new(), tempfile::tempdir().unwrap());
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (_gets, mut hung) = conductor(&world, positions.path(), folders[0].path()).await;
    hung.change_share().unwrap();
    let mut standing = hung.take_over().await.unwrap();
    let (send, _walks) = mpsc::channel(1);
    let refusal = || Effect::Settled {
        command: CommandId::from_bytes([1; 16]),
        case: CaseId::from_bytes([1; 8]),
        refused: Some(Refused::NoSuchCase),
    };
    let answers = Place::new(Stream::Answers, 0);
    hung.carry_out(vec![refusal()], &mut standing, &send)
        .await
        .unwrap();
    assert_eq!(world.log.head(&answers).await.unwrap(), 1, "it is the writer");

    let (_gets, mut second) = conductor(&world, positions.path(), folders[1].path()).await;
    second.change_share().unwrap();
    tokio::time::advance(Duration::from_secs(60)).await;
    second.change_share().unwrap();
    second.take_over().await.unwrap();
    let late = hung.carry_out(vec![refusal()], &mut standing, &send).await;
    let late = late.unwrap_err();
    assert!(matches!(late, Error::Fenced { .. }) && hung.goes_on_after(&late));
    assert_eq!(world.log.head(&answers).await.unwrap(), 1);

    hung.change_share().unwrap();
    assert!(hung.take_over().await.unwrap().worked.is_empty());
}

/// Puts a command on the log that opens a case, with something sealed that its key does not open.
async fn opens(world: &World, byte: u8, key: KeyWrapped) -> (CommandId, CaseId) {
    let (command, case) = (CommandId::from_bytes([byte; 16]), CaseId::from_bytes([byte; 8]));
    let opening = Opening {
        right: Right::Erasure,
        erasure_ground: Some(ErasureGround::NotNecessary),
        restriction_ground: None,
        received_at: shell::now(),
        origin: CaseOrigin::Requested,
        supersedes: None,
        given: Sealed::from_bytes(vec![0; 64]),
        commitment: String::new(),
    };
    let open = Command::Open {
        command,
        case,
        key,
        opening,
    };
    publish::command(&*world.log, "/lethe/gateway", open)
        .await
        .unwrap();
    (command, case)
}

#[tokio::test]
async fn a_command_that_its_key_does_not_open_is_refused() {
    let (world, positions) = (World::new(), tempfile::tempdir().unwrap());
    let (folder, folds) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_gets, mut shell) = conductor(&world, positions.path(), folder.path()).await;
    let (keys, _stop) = keys_on(&world.log, folds.path());
    let drawn = keys.draw(CaseId::from_bytes([2; 8])).unwrap().wrapped;
    shell.keys = keys;
    shell.change_share().unwrap();
    let mut standing = shell.take_over().await.unwrap();
    let unknown = KeyWrapped {
        bucket: 99,
        ..drawn.clone()
    };
    let of_nobody = opens(&world, 1, unknown).await;
    let of_another = opens(&world, 2, drawn).await;
    let (_send, mut walks) = mpsc::channel(1);
    let inputs = shell.gather(&mut standing, &mut walks).await.unwrap();
    let is_command = |input: &Input| matches!(input, Input::Command { .. });
    assert!(!inputs.iter().any(is_command), "{inputs:?}");
    let page = world.log.read(&Place::new(Stream::Answers, 0), 0, 9).await;
    let refused = poison::sorted::<Answer>(page.unwrap())
        .unwrap()
        .events
        .into_iter();
    let refused = refused.map(|(_, event)| match event.data {
        Answer::Refused { command, code, .. } => (command, code.0),
        other => panic!("{other:?}"),
    });
    let expected = [
        (of_nobody.0, "vault-unknown-bucket"),
        (of_another.0, "vault-cannot-open"),
    ];
    let expected = expected.map(|(command, code)| (command, code.to_owned()));
    assert_eq!(refused.collect::<Vec<_>>(), expected, "other processes hear it");
    for (command, case) in [of_nobody, of_another] {
        let settled = shell.cases.settled(case, command);
        assert!(matches!(settled, Some(Some(_))), "{case}");
    }
}
