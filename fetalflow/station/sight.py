"""What one account may see on one cine, by the studies of the workspace."""

from fetalflow.annotation.studies import ALL, Sight, Study, may_see, studies, study_of
from fetalflow.station.accounts import Account
from fetalflow.station.catalogue import Cine
from fetalflow.station.place import Place


def sight_of(place: Place, account: Account, cine: Cine) -> tuple[Sight, Study]:
    """What the account may see and do, and the study that says so."""
    study = study_of(studies(place.journal.events(cine.task, ALL)), cine.source, unlabelled=not cine.labels)
    events = place.journal.events(cine.task, cine.source)
    return may_see(account.name, account.may("adjudicator"), study, events), study


def sees_labels(account: Account, sight: Sight, study: Study) -> bool:
    """Whether the account may see the labels of the drop: who labels in a blind study does not."""
    return sight.marks or not (study.blind and account.name in study.accounts)
