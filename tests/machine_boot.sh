#!/bin/sh
# Become systemd as process 1 of a machine that sees this one's files and can change none of them:
# all that is written goes into memory, and is gone with the last process. Run by machine.py in
# namespaces of its own.
#   machine_boot.sh SCRATCH SITE PREFIX PYTHON FOLDER...
# SITE are the packages that environments made there find, PYTHON the interpreter in PREFIX/bin that
# makes them, FOLDER what lies on another file system than /.
set -eu
scratch=$1 site=$2 prefix=$3 python=$4
shift 4

layer() { # FOLDER NAME PLACE: let the folder be seen at the place, with changes kept in memory
    mkdir -p "$scratch/$2/changed" "$scratch/$2/work" "$3"
    mount -t overlay overlay "$3" \
        -o "lowerdir=$1,upperdir=$scratch/$2/changed,workdir=$scratch/$2/work"
}

mount --make-rprivate /
# It takes memory only for what is written; the node wants to see room for its reserve.
mount -t tmpfs -o mode=755,size=64g scratch "$scratch"
root=$scratch/root
layer / all "$root"
number=0
for folder; do
    number=$((number + 1))
    layer "$folder" "folder$number" "$root$folder"
done
mkdir -p "$root/opt/site" "$root/opt/python" "$root/before"
# Where services see them: in a home they would not (ProtectHome=).
mount --bind -o ro "$site" "$root/opt/site"
mount --bind -o ro "$prefix" "$root/opt/python"

mount -t proc proc "$root/proc"
# What the kernel has one of for all machines is not for this one to set.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"

# An interpreter of its own may have a library of its own, where services would not find it.
mkdir -p "$root/etc/ld.so.conf.d"
echo /opt/python/lib >"$root/etc/ld.so.conf.d/00-python.conf"
chroot "$root" ldconfig

cd "$root"
pivot_root . before
umount -l /before
# As systemd does where it is not in a container: credentials come to a service in that way.
mount --make-rshared /

# Nothing is started but what the tests ask for, and the journal.
rm -rf /etc/systemd/system/*.wants /usr/lib/systemd/system/*.wants /lib/systemd/system/*.wants
cat >/etc/systemd/system/machine.target <<'UNIT'
[Unit]
Description=What the tests need
DefaultDependencies=no
Requires=systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket
UNIT

rm -f /usr/local/bin/sudo /usr/local/bin/python3
# root is who asks here; sudo need not be installed.
cat >/usr/local/bin/sudo <<'PROGRAM'
#!/bin/sh
[ "$1" = -u ] || exec "$@"
user=$2
shift 2
exec setpriv --reuid="$user" --regid="$user" --clear-groups "$@"
PROGRAM
# Nothing comes from the network: a new environment finds what the tests run with.
cat >/usr/local/bin/python3 <<PROGRAM
#!/bin/sh
/opt/python/bin/$python "\$@" || exit
[ "\$1 \$2" = "-m venv" ] || exit 0
cd "\$3"/lib/python3*/site-packages
rm -rf setuptools* pkg_resources _distutils_hack distutils-precedence.pth
echo /opt/site >site.pth
PROGRAM
chmod 755 /usr/local/bin/sudo /usr/local/bin/python3

exec env -i container=test PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=machine.target --log-target=journal --show-status=0
