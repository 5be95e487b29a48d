# Adds, changes and removes files, and puts a directory in the place of another.
import os

os.chdir('/srv/app')
with open('new', 'w') as new:
    new.write('written')
os.chown('new', 1000, 70000)
os.chmod('new', 0o4751)
os.setxattr('new', 'user.note', b'kept')
with open('main.py', 'a') as main:
    main.write('changed')
os.remove('becomes-a-file')
for name in os.listdir('kept'):
    os.remove('kept/' + name)
os.rmdir('kept')
os.mkdir('kept')
with open('kept/only', 'w') as only:
    only.write('x')
os.link('new', 'linked')
os.symlink('new', 'points')
os.mkfifo('pipe')
