use std::fs;

use super::*;

fn member(folder: &Path) -> (watch::Sender<BTreeSet<u16>>, Share) {
    let (assign, assigned) = watch::channel(BTreeSet::new());
    (assign, Share::given(assigned, folder))
}

fn partitions(share: &Share) -> Vec<u16> {
    share.carried().into_iter().collect()
}

/// Begins as the writer of all that is carried, with this epoch.
fn begin(share: &mut Share, epoch: Epoch) -> BTreeMap<u16, Worked> {
    let epochs = share.carried().into_iter().map(|partition| (partition, epoch));
    share.begin(&epochs.collect()).unwrap()
}

const fn worked(commands: Position, answers: Position) -> Worked {
    Worked { commands, answers }
}

/// Everything that is carried, this far.
fn all(share: &Share, worked: Worked) -> BTreeMap<u16, Worked> {
    share.carried().into_iter().map(|one| (one, worked)).collect()
}

#[test]
fn a_partition_comes_when_the_one_before_has_given_it_up_and_goes_on_where_that_was() {
    let folder = tempfile::tempdir().unwrap();
    let (first_gets, mut first) = member(folder.path());
    let (second_gets, mut second) = member(folder.path());
    assert!(
        first.is_to_change() && first.change().unwrap(),
        "nobody carries them"
    );
    assert_eq!(partitions(&first), [0, 1, 2, 3]);
    begin(&mut first, 1);
    assert!(!second.change().unwrap(), "the first one carries them");
    first_gets.send_replace([0, 1, 2, 3].into());
    assert!(!first.is_to_change() && !first.change().unwrap());

    // The group is ahead of what the first one is in the middle of.
    first_gets.send_replace([0, 1].into());
    second_gets.send_replace([2, 3].into());
    assert!(!second.change().unwrap() && second.is_to_change());
    first.write(&all(&first, worked(7, 9))).unwrap();
    assert_eq!(first.leaving().unwrap(), [2, 3].into());
    assert!(first.change().unwrap() && !first.is_to_change());
    assert!(second.change().unwrap());
    assert_eq!(
        begin(&mut second, 2),
        [(2, worked(7, 9)), (3, worked(7, 9))].into()
    );

    // A process that ended has given everything up.
    drop(first);
    second_gets.send_replace([0, 1, 2, 3].into());
    assert!(second.change().unwrap());
    assert_eq!(partitions(&second), [0, 1, 2, 3]);
}

/// One that carries all and hangs, and another that has taken all over.
async fn taken_over(folder: &Path) -> (watch::Sender<BTreeSet<u16>>, Share, Share) {
    let (hung_gets, mut hung) = member(folder);
    hung_gets.send_replace([0, 1, 2, 3].into());
    hung.change().unwrap();
    begin(&mut hung, 1);
    hung.write(&all(&hung, worked(7, 9))).unwrap();

    let (gets, mut second) = member(folder);
    tokio::time::advance(2 * GRACE).await;
    assert!(!second.change().unwrap(), "the group has not spoken");
    gets.send_replace([0, 1, 2, 3].into());
    assert!(!second.change().unwrap() && second.is_to_change());
    tokio::time::advance(GRACE - Duration::from_millis(1)).await;
    assert!(!second.change().unwrap(), "it may be in the middle of a round");
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(second.change().unwrap());
    assert_eq!(begin(&mut second, 2), all(&second, worked(7, 9)));
    (hung_gets, hung, second)
}

#[tokio::test(start_paused = true)]
async fn what_the_group_gives_is_taken_from_a_process_that_hangs_and_that_takes_it_back_only_when_the_group_still_says_so()
 {
    let folder = tempfile::tempdir().unwrap();
    let (hung_gets, mut hung, second) = taken_over(folder.path()).await;
    assert!(hung.is_overtaken().unwrap() && !second.is_overtaken().unwrap());
    assert_eq!(hung.leaving().unwrap(), [0, 1, 2, 3].into());

    // It goes on, and has not heard yet that it was missed.
    assert!(hung.change().unwrap());
    assert!(partitions(&hung).is_empty());
    tokio::time::advance(GRACE - Duration::from_millis(1)).await;
    assert!(!hung.change().unwrap(), "all locks are free, and it rests");

    // It hears; what it gets anew it takes at once.
    hung_gets.send_replace(BTreeSet::new());
    assert!(!hung.is_to_change() && !hung.change().unwrap());
    hung_gets.send_replace([1].into());
    assert!(hung.change().unwrap());
    assert_eq!(partitions(&hung), [1]);
    begin(&mut hung, 3);
    assert!(second.is_overtaken().unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_lock_of_a_process_that_hung_is_taken_once_it_is_free_and_keeps_others_out_again() {
    let folder = tempfile::tempdir().unwrap();
    let (_hung_gets, hung, mut second) = taken_over(folder.path()).await;
    assert!(second.is_to_change(), "it looks for the locks");
    drop(hung);
    assert!(!second.change().unwrap(), "it carries the same as before");
    assert!(!second.is_to_change());
    let (gets, mut third) = member(folder.path());
    gets.send_replace([0].into());
    assert!(!third.change().unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_a_process_writes_that_was_taken_over_counts_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (_hung_gets, hung, second) = taken_over(folder.path()).await;
    let commands = second.passed(Stream::Commands);
    second.write(&all(&second, worked(20, 20))).unwrap();
    for late in [worked(8, 9), worked(99, 99)] {
        hung.write(&all(&hung, late)).unwrap();
        assert_eq!(commands().unwrap(), 20);
    }
    // Also where the new writer has not come to write anything, and for whoever comes next.
    drop((hung, second));
    let (gets, mut third) = member(folder.path());
    gets.send_replace([0, 1, 2, 3].into());
    third.change().unwrap();
    assert_eq!(begin(&mut third, 3), all(&third, worked(20, 20)));
    let files = fs::read_dir(folder.path()).unwrap();
    let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let positions: BTreeSet<_> = files.filter(|name| !name.ends_with("lock")).collect();
    assert_eq!(
        positions,
        ["0.3", "1.3", "2.3", "3.3"].map(str::to_owned).into(),
        "nothing piles up"
    );
}

#[test]
fn a_queue_is_dropped_up_to_where_the_slowest_conductor_is() {
    let folder = tempfile::tempdir().unwrap();
    let (gets, mut share) = member(folder.path());
    gets.send_replace([0, 1, 2].into());
    share.change().unwrap();
    begin(&mut share, 1);
    share
        .write(&[(0, worked(5, 8)), (1, worked(4, 9)), (2, worked(6, 7))].into())
        .unwrap();
    let (commands, answers) = (share.passed(Stream::Commands), share.passed(Stream::Answers));
    assert_eq!(
        commands().unwrap(),
        0,
        "nobody has said how far the fourth partition is"
    );
    gets.send_replace([3].into());
    share.change().unwrap();
    begin(&mut share, 1);
    share
        .write(&[(0, worked(99, 99)), (3, worked(11, 12))].into())
        .unwrap();
    assert_eq!(
        (commands().unwrap(), answers().unwrap()),
        (4, 7),
        "what is not carried is not written"
    );
    // The others have gone on, and nobody carries the second partition: whoever watches sees that.
    assert_eq!(
        share.stands(Stream::Commands)(),
        [(Place::new(Stream::Commands, 0), 4)]
    );
    fs::write(folder.path().join("1.1"), "half a").unwrap();
    assert_eq!(commands().unwrap(), 0);
}
