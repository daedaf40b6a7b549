/* floor: the kernel's price of a container on cgroup v1.
 *
 *     floor ROOTFS NAME PROGRAM [ARGUMENT...]
 *     floor --docker FILTER FILES ROOTFS NAME PROGRAM [ARGUMENT...]
 *
 * Makes the container that `runc spec` describes (terminal off), or that of
 * docker.json with its finished seccomp filter and its three files, with the system
 * calls that this takes and nothing else: no JSON, no state, no checks, one clone.
 * The parent sets up the cgroups while the child makes its mounts. What a runtime
 * takes longer than this is its own.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <grp.h>
#include <unistd.h>

/* glibc's sys/mount.h and linux/mount.h do not go together everywhere */
int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);
#ifndef MS_RDONLY
#define MS_RDONLY 1
#define MS_NOSUID 2
#define MS_NODEV 4
#define MS_NOEXEC 8
#define MS_BIND 4096
#define MS_REC 16384
#define MS_PRIVATE (1 << 18)
#define MS_SLAVE (1 << 19)
#define MS_RELATIME (1 << 21)
#define MS_STRICTATIME (1 << 24)
#endif
#define DETACH 2
#define MANY 32
#define CAPS ((1u << 29) | (1u << 5) | (1u << 10)) /* audit_write, kill, net_bind_service */
#define DOCKER_CAPS 0xa80425fbu /* the fourteen of docker.json */

#define must(call) ((long)(call) == -1 ? die(#call) : (void)0)

static char hierarchy[MANY][128]; /* v1 mount points, such as /sys/fs/cgroup/cpu */
static int hierarchies;
static const char *filter, *files; /* of --docker */
static struct sock_fprog program;

static void die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(125);
}

static void find_hierarchies(void)
{
	char text[32768], *line, *rest = text;
	int fd = open("/proc/self/mountinfo", O_RDONLY);
	ssize_t n, size = 0;

	must(fd);
	while ((n = read(fd, text + size, sizeof text - 1 - size)) > 0)
		size += n;
	close(fd);
	text[size] = 0;
	while ((line = strsep(&rest, "\n")) && hierarchies < MANY)
		if (strstr(line, " - cgroup "))
			sscanf(line, "%*s %*s %*s %*s %127s", hierarchy[hierarchies++]);
}

static int is(const char *path, const char *name)
{
	const char *base = strrchr(path, '/') + 1;
	return !strncmp(base, name, strlen(name)) && strchr(",", base[strlen(name)]);
}

/* Opens directory/file, writes each text, closes. */
static void put(int directory, const char *file, const char *const *texts)
{
	int fd = openat(directory, file, O_WRONLY | O_CLOEXEC);

	must(fd);
	for (; *texts; texts++)
		must(write(fd, *texts, strlen(*texts)));
	close(fd);
}

static void inherit(int from, int to, const char *file)
{
	char text[256];
	int fd = openat(from, file, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof text - 1);

	must(n);
	close(fd);
	text[n] = 0;
	put(to, file, (const char *[]){text, 0});
}

static const char *const denied[] = {"a", 0};
static const char *const allowed[] = {
	"c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm",
	"c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm", 0};

static const char *const docker_allowed[] = {
	"c *:* m", "b *:* m", "c 1:5 rwm", "c 1:3 rwm", "c 1:9 rwm", "c 1:8 rwm", "c 1:7 rwm",
	"c 5:0 rwm", "c 5:1 rwm", "c 5:2 rwm", "c 136:* rwm", 0};
static const char *const fuse[] = {"c 10:229 rwm", 0};

/* Makes the cgroups, sets their rules, and puts the child into them. */
static void join_cgroups(const char *name, pid_t child)
{
	char pid[16];

	sprintf(pid, "%d", child);
	for (int i = 0; i < hierarchies; i++) {
		int top = open(hierarchy[i], O_PATH | O_DIRECTORY | O_CLOEXEC), fd;

		must(top);
		fd = openat(top, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		must(fd);
		if (is(hierarchy[i], "cpuset")) {
			inherit(top, fd, "cpuset.cpus");
			inherit(top, fd, "cpuset.mems");
		}
		if (is(hierarchy[i], "devices")) {
			put(fd, "devices.deny", denied);
			put(fd, "devices.allow", filter ? docker_allowed : allowed);
			if (filter)
				put(fd, "devices.deny", fuse);
		}
		put(fd, "cgroup.procs", (const char *[]){pid, 0});
		close(fd);
		close(top);
	}
}

/* Makes (or removes) the directories; the child binds them, so they come first. */
static void cgroup_directories(const char *name, int make)
{
	char path[8192];

	for (int i = 0; i < hierarchies; i++) {
		snprintf(path, sizeof path, "%s/%s", hierarchy[i], name);
		if (make)
			must(mkdir(path, 0755));
		else
			rmdir(path);
	}
}

static void set_attributes(const char *path, unsigned flags, unsigned long long set)
{
	struct mount_attr attr = {.attr_set = set};
	must(syscall(SYS_mount_setattr, AT_FDCWD, path, flags, &attr, sizeof attr));
}

static void make_mounts(const char *name)
{
	static const struct { const char *path; int minor; } devices[] = {
		{"dev/null", 3}, {"dev/zero", 5}, {"dev/full", 7}, {"dev/random", 8}, {"dev/urandom", 9}};
	static const char *const links[][2] = {
		{"/proc/self/fd", "dev/fd"}, {"/proc/self/fd/0", "dev/stdin"},
		{"/proc/self/fd/1", "dev/stdout"}, {"/proc/self/fd/2", "dev/stderr"},
		{"pts/ptmx", "dev/ptmx"}};
	unsigned long safe = MS_NOSUID | MS_NOEXEC | MS_NODEV;
	char source[512], target[512];

	must(mount("proc", "proc", "proc", 0, 0));
	must(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
	must(mkdir("dev/pts", 0755));
	must(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
		   "newinstance,ptmxmode=0666,mode=0620,gid=5"));
	must(mkdir("dev/shm", 0755));
	must(mount("shm", "dev/shm", "tmpfs", safe, "mode=1777,size=65536k"));
	must(mkdir("dev/mqueue", 0755));
	must(mount("mqueue", "dev/mqueue", "mqueue", safe, 0));
	must(mount("sysfs", "sys", "sysfs", safe | MS_RDONLY, 0));
	must(mount("cgroup", "sys/fs/cgroup", "tmpfs", safe | MS_RELATIME, "mode=755"));
	for (int i = 0; i < hierarchies; i++) {
		snprintf(source, sizeof source, "%s/%s", hierarchy[i], name);
		snprintf(target, sizeof target, "sys/fs/cgroup%s", strrchr(hierarchy[i], '/'));
		must(mkdir(target, 0755));
		must(mount(source, target, 0, MS_BIND, 0));
	}
	set_attributes("sys/fs/cgroup", AT_RECURSIVE, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID |
		       MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	for (unsigned i = 0; i < sizeof devices / sizeof *devices; i++)
		must(mknod(devices[i].path, S_IFCHR | 0666, makedev(1, devices[i].minor)));
	must(mknod("dev/tty", S_IFCHR | 0666, makedev(5, 0)));
	for (unsigned i = 0; i < sizeof links / sizeof *links; i++)
		must(symlink(links[i][0], links[i][1]));
	for (int i = 0; filter && i < 3; i++) {
		static const char *const names[] = {"etc/resolv.conf", "etc/hostname", "etc/hosts"};

		snprintf(source, sizeof source, "%s/%s", files, names[i]);
		must(mount(source, names[i], 0, MS_BIND | MS_REC, 0));
		must(mount(0, names[i], 0, MS_PRIVATE | MS_REC, 0));
	}
	if (filter) {
		put(AT_FDCWD, "proc/sys/net/ipv4/ip_unprivileged_port_start", (const char *[]){"0", 0});
		put(AT_FDCWD, "proc/sys/net/ipv4/ping_group_range", (const char *[]){"0 2147483647", 0});
	}
}

static void protect_paths(void)
{
	static const char *const masked[] = {
		"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
		"/proc/scsi"};
	static const char *const readonly[] = {
		"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};

	for (unsigned i = 0; i < sizeof masked / sizeof *masked; i++) {
		if (!mount("/dev/null", masked[i], 0, MS_BIND, 0) || errno == ENOENT)
			continue;
		must(mount("tmpfs", masked[i], "tmpfs", MS_RDONLY, 0));
	}
	for (unsigned i = 0; i < sizeof readonly / sizeof *readonly; i++)
		if (!mount(readonly[i], readonly[i], 0, MS_BIND | MS_REC, 0))
			set_attributes(readonly[i], AT_RECURSIVE, MOUNT_ATTR_RDONLY);
}

static void loopback_up(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	must(fd);
	must(ioctl(fd, SIOCSIFFLAGS, &request));
	close(fd);
}

/* The file is what rt keeps for exec: eight bytes of flags, then the program. */
static void read_filter(void)
{
	static char bytes[65536];
	int fd = open(filter, O_RDONLY | O_CLOEXEC);
	ssize_t size = read(fd, bytes, sizeof bytes);

	must(size);
	close(fd);
	program.len = (size - 8) / sizeof(struct sock_filter);
	program.filter = (void *)(bytes + 8);
}

static void limit_rights(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	unsigned caps = filter ? DOCKER_CAPS : CAPS;
	/* the bundle asks for ambient ones without inheritable: no runtime can give those */
	struct __user_cap_data_struct data[2] = {{caps, caps, 0}, {0, 0, 0}};
	struct rlimit most = {1024, 1024};
	gid_t group = 0;

	if (!filter)
		must(setrlimit(RLIMIT_NOFILE, &most));
	must(setgroups(filter ? 1 : 0, &group));
	for (unsigned cap = 0; cap <= CAP_LAST_CAP; cap++)
		if (cap > 31 || !(caps >> cap & 1))
			must(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0));
	if (filter)
		must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
	must(syscall(SYS_capset, &header, data));
	if (!filter)
		must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

static void child(char **arguments, int ready)
{
	static char *environment[] = {
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", 0};
	char byte;

	umask(0);
	must(mount(0, "/", 0, MS_SLAVE | MS_REC, 0));
	must(mount(arguments[1], arguments[1], 0, MS_BIND | MS_REC, 0));
	must(chdir(arguments[1]));
	make_mounts(arguments[2]);
	must(syscall(SYS_pivot_root, ".", "."));
	must(umount2(".", DETACH));
	must(chdir("/"));
	if (!filter)
		set_attributes("/", 0, MOUNT_ATTR_RDONLY);
	must(sethostname(filter ? "bench" : "runc", filter ? 5 : 4));
	protect_paths();
	loopback_up();
	must(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, arguments[2], 0, 0, 0));
	if (read(ready, &byte, 1) != 1) /* until the parent has us in the cgroups */
		die("the parent has gone");
	limit_rights();
	umask(022);
	must(syscall(SYS_close_range, 3, ~0u, 0));
	execve(arguments[3], arguments + 3, environment);
	die("execve");
}

int main(int count, char **arguments)
{
	int ready[2], status;
	pid_t pid;

	if (count > 6 && !strcmp(arguments[1], "--docker")) {
		filter = arguments[2];
		files = arguments[3];
		arguments += 3;
		count -= 3;
	}
	if (count < 4) {
		fprintf(stderr, "usage: floor [--docker FILTER FILES] ROOTFS NAME PROGRAM [ARGUMENT...]\n");
		return 2;
	}
	if (filter)
		read_filter();
	find_hierarchies();
	cgroup_directories(arguments[2], 1);
	must(pipe2(ready, O_CLOEXEC));
	pid = syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |
		      CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0);
	must(pid);
	if (!pid)
		child(arguments, ready[0]);
	join_cgroups(arguments[2], pid);
	must(write(ready[1], "", 1));
	must(waitpid(pid, &status, 0));
	cgroup_directories(arguments[2], 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
