//! The ways in which the memory connector can be wrong: each breaks one number of CONTRACT.md.

/// One way to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Says erased and erases nothing.
    SaysErasedButDoesNot,
    /// Says absent of whatever it said it had erased, without looking.
    ObserveLiesToo,
    /// Acts again when an instruction is repeated.
    ActsTwice,
    /// Forgets instructions when it is restarted.
    ForgetsIds,
    /// Answers observations from what it did and not from what is there.
    ObservesFromMemory,
    /// Carries out an instruction that is older than one that it has seen.
    AcceptsStale,
    /// Lifts a restriction that is newer than the instruction.
    LiftsNewer,
    /// Leaves the last identifier of a record out when locating.
    DropsIdentifier,
    /// Changes the neighbour's record too.
    TouchesBystander,
    /// Quotes what it was asked in an error.
    LeaksIdentifier,
    /// Takes an empty selector for everybody.
    EmptyMeansAll,
    /// Answers an unknown handle with an error.
    UnknownHandleIsError,
    /// Acts and loses the instruction before it is remembered, where it is told to crash.
    RemembersTooLate,
    /// Marks as restricted and hands the data out as before.
    RestrictsInNameOnly,
    /// Declares restriction and cannot do it.
    ManifestLies,
    /// Never says that a record is gone.
    KeepsSilentAboutGone,
    /// Returns everything in one page, whatever the limit.
    UnboundedPages,
    /// Writes the key of a record into the cursor.
    KeyInCursor,
    /// Changes a record when it is checked.
    CheckTouches,
    /// Puts data back elsewhere when a restriction is lifted.
    LosesPlace,
    /// Counts one record too few when a restriction is lifted.
    CountsLiftShort,
    /// Finds a record by its first identifier only.
    FindsByFirstOnly,
    /// Shows a change only to the first who reads it.
    ConsumesFeed,
    /// Shows nothing that came after the beginning.
    NeverFollows,
    /// Leaves the last identifier of a record out of an export.
    ExportsHalf,
}
