# Prints a line about everything below `/` that belongs to the root file system.
import hashlib
import os
import stat

with open('/proc/self/mountinfo') as mountinfo:
    mounts = {line.split()[4] for line in mountinfo} - {'/'}


def show(path):
    of = os.lstat(path)
    names = sorted(os.listxattr(path, follow_symlinks=False))
    attributes = [(name, os.getxattr(path, name, follow_symlinks=False)) for name in names]
    # A container's `/` is a directory of its own, and as old as the container.
    modified = of.st_mtime_ns if path != '/' else None
    content = None
    if stat.S_ISLNK(of.st_mode):
        content = os.readlink(path)
    if stat.S_ISREG(of.st_mode):
        with open(path, 'rb') as file:
            content = of.st_nlink, hashlib.sha256(file.read()).hexdigest()
    print(path, oct(of.st_mode), of.st_uid, of.st_gid, of.st_rdev, modified, attributes, content)


for place, directories, files in os.walk('/'):
    show(place)
    directories[:] = sorted(name for name in directories if os.path.join(place, name) not in mounts)
    links = [name for name in directories if os.path.islink(os.path.join(place, name))]
    for name in sorted(files + links):
        path = os.path.join(place, name)
        if path not in mounts:
            show(path)
