"""What crun's tests use of util-linux's module of this name, which Debian does not have: a mountinfo file, read."""


class Fs:
    def __init__(self, line):
        mount, _, system = line.partition(" - ")
        self.target, self.vfs_options = mount.split()[4:6]
        self.fs_options = system.split()[2]


class Table:
    def __init__(self, path):
        with open(path) as mountinfo:
            self.mounts = [Fs(line) for line in mountinfo if line.strip()]

    def find_target(self, target):
        """The mount on top."""
        return next(fs for fs in reversed(self.mounts) if fs.target == target)
