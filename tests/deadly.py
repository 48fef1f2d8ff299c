"""A rewriter whose process dies of one file, as codecs make processes do. Workers import it."""

from __future__ import annotations

import os
import signal

from node.service.places import Task
from node.service.rewriting import Result, Rewriter


class Deadly(Rewriter):
    def rewrite(self, task: Task) -> Result:
        if task.source.endswith("/deadly.dcm") and self.options.transfer_syntax_uid:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().rewrite(task)
