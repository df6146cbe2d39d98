/*-------------------------------------------------------------------------
 *
 * forgetful.c
 *		A disk that forgets what was not synced, for a server that is preloaded
 *		with this library.
 *
 * fsync() and fdatasync() copy what differs from the file into a shadow, and
 * sync nothing else.  When the power is cut, forgetful.py puts the contents of the
 * shadow in the place of the data directory.  The shadow consists of
 *
 *		files/INODE		what is durable of a file
 *		live/INODE		a link to the file itself, so that its number is not given
 *						to another one
 *		names/...		the durable names: directories, and links into files/
 *		synced			modified by each call
 *
 * While a file "full" is in the shadow, files of relations cannot grow.
 *
 * As with ext4 and XFS, a file that is synced keeps its name as well, with the
 * directories above it; that a file was renamed or removed is durable when its
 * directory is synced.
 *
 * FORGETFUL_DATA is the data directory and FORGETFUL_SHADOW the shadow, both
 * absolute, without symbolic links, and on one file system.  Without these
 * variables, nothing is done.  The processes of a server share the shadow: a lock
 * on files/INODE keeps an older content from overwriting a newer one.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define BLOCK_SIZE	8192

static const char *data;
static const char *shadow;

static void
give_up(const char *what, const char *path)
{
	dprintf(STDERR_FILENO, "forgetful disk: could not %s \"%s\": %s\n", what, path, strerror(errno));
	abort();
}

/* The variables are copied, because the server writes its titles over them. */
static void __attribute__((constructor))
start(void)
{
	if (getenv("FORGETFUL_DATA") == NULL || getenv("FORGETFUL_SHADOW") == NULL)
		return;
	data = strdup(getenv("FORGETFUL_DATA"));
	shadow = strdup(getenv("FORGETFUL_SHADOW"));
}

/* Write a path into a buffer of PATH_MAX, and return it. */
static const char *__attribute__((format(printf, 2, 3)))
compose(char *path, const char *format,...)
{
	va_list		arguments;

	va_start(arguments, format);
	if (vsnprintf(path, PATH_MAX, format, arguments) >= PATH_MAX)
		give_up("use", path);
	va_end(arguments);
	return path;
}

static const char *
in_shadow(char *path, const char *folder, const char *name)
{
	return compose(path, "%s/%s/%s", shadow, folder, name);
}

static const char *
by_inode(char *path, const char *folder, ino_t inode)
{
	return compose(path, "%s/%s/%llu", shadow, folder, (unsigned long long) inode);
}

/*
 * Return the name of an open file below the data directory, "" for that itself;
 * NULL if it is elsewhere, or has no name any more.  buffer has room for PATH_MAX.
 */
static const char *
name_of(int fd, char *buffer)
{
	char		link[64];
	size_t		length = strlen(data);
	struct stat status;
	ssize_t		n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, buffer, PATH_MAX - 1);
	if (n < 0)
		return NULL;
	buffer[n] = '\0';
	if (strncmp(buffer, data, length) != 0 || (buffer[length] != '\0' && buffer[length] != '/'))
		return NULL;
	if (fstat(fd, &status) != 0 || status.st_nlink == 0 || access(buffer, F_OK) != 0)
		return NULL;
	return buffer + length + (buffer[length] == '/');
}

/* Create the directories above a durable name. */
static void
make_parents(const char *name)
{
	char		part[PATH_MAX];
	char		path[PATH_MAX];

	for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/'))
	{
		compose(part, "%.*s", (int) (slash - name), name);
		if (mkdir(in_shadow(path, "names", part), 0700) != 0 && errno != EEXIST)
			give_up("create", path);
	}
}

/* Make a name of a file durable. */
static void
keep_name(const char *name, ino_t inode)
{
	char		file[PATH_MAX];
	char		path[PATH_MAX];
	char		temporary[PATH_MAX];
	struct stat kept;
	struct stat there;

	if (stat(by_inode(file, "files", inode), &kept) != 0)
		return;
	if (stat(in_shadow(path, "names", name), &there) == 0 && there.st_ino == kept.st_ino)
		return;
	make_parents(name);
	compose(temporary, "%s/names.%d", shadow, (int) getpid());
	unlink(temporary);
	if (link(file, temporary) != 0 || rename(temporary, path) != 0)
		give_up("link", path);
	/* rename() does nothing if another process has linked the file there */
	unlink(temporary);
}

/* Pin a file, and open what is durable of it; path is the file's own. */
static int
open_durable(const char *path, ino_t inode)
{
	char		pin[PATH_MAX];
	char		file[PATH_MAX];
	int			fd;

	if (linkat(AT_FDCWD, path, AT_FDCWD, by_inode(pin, "live", inode), AT_SYMLINK_FOLLOW) != 0 && errno != EEXIST)
		return -1;				/* removed meanwhile */
	fd = open(by_inode(file, "files", inode), O_RDWR | O_CREAT, 0600);
	if (fd < 0)
		give_up("open", file);
	return fd;
}

/* Copy what differs from one file to another, which has the same contents then. */
static void
copy(int from, int to, const char *name)
{
	char		new[BLOCK_SIZE];
	char		old[BLOCK_SIZE];
	off_t		offset = 0;
	ssize_t		n;

	while ((n = pread(from, new, sizeof(new), offset)) > 0)
	{
		if (pread(to, old, n, offset) != n || memcmp(old, new, n) != 0)
		{
			if (pwrite(to, new, n, offset) != n)
				give_up("write", name);
		}
		offset += n;
	}
	if (n < 0 || ftruncate(to, offset) != 0)
		give_up("copy", name);
}

static void
sync_file(int fd, const char *name, ino_t inode)
{
	char		link[64];
	int			from;
	int			to;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	from = open(link, O_RDONLY);
	if (from < 0)
		give_up("open", name);
	to = open_durable(link, inode);
	if (to >= 0)
	{
		while (flock(to, LOCK_EX) != 0)
		{
			if (errno != EINTR)
				give_up("lock", name);
		}
		copy(from, to, name);
		keep_name(name, inode);
		close(to);
	}
	close(from);
}

/* Make the names in a directory durable; files that were never synced are empty. */
static void
keep_names(const char *directory)
{
	char		path[PATH_MAX];
	char		name[PATH_MAX];
	DIR		   *dir;
	struct dirent *entry;
	struct stat status;
	int			fd;

	compose(path, "%s/%s", data, directory);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)) != NULL)
	{
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		compose(name, "%s%s%s", directory, *directory ? "/" : "", entry->d_name);
		compose(path, "%s/%s", data, name);
		if (lstat(path, &status) != 0)
			continue;
		make_parents(name);
		if (S_ISDIR(status.st_mode))
			(void) mkdir(in_shadow(path, "names", name), 0700);
		else if (S_ISREG(status.st_mode) && (fd = open_durable(path, status.st_ino)) >= 0)
		{
			close(fd);
			keep_name(name, status.st_ino);
		}
	}
	if (dir)
		closedir(dir);
}

/* Forget the durable names that a directory does not have any more. */
static void
drop_names(const char *directory)
{
	char		path[PATH_MAX];
	char		name[PATH_MAX];
	DIR		   *dir = opendir(in_shadow(path, "names", directory));
	struct dirent *entry;

	while (dir && (entry = readdir(dir)) != NULL)
	{
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		compose(name, "%s%s%s", directory, *directory ? "/" : "", entry->d_name);
		compose(path, "%s/%s", data, name);
		if (access(path, F_OK) == 0)
			continue;
		if (unlink(in_shadow(path, "names", name)) != 0 && errno == EISDIR)
		{
			drop_names(name);
			(void) rmdir(path);
		}
	}
	if (dir)
		closedir(dir);
}

static int
make_durable(int fd)
{
	int			saved_errno = errno;
	char		buffer[PATH_MAX];
	char		stamp[PATH_MAX];
	const char *name;
	struct stat status;
	int			stamp_fd;

	if (data == NULL || (name = name_of(fd, buffer)) == NULL || fstat(fd, &status) != 0)
		return 0;
	if (S_ISDIR(status.st_mode))
	{
		keep_names(name);
		drop_names(name);
	}
	else
		sync_file(fd, name, status.st_ino);

	compose(stamp, "%s/synced", shadow);
	stamp_fd = open(stamp, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (stamp_fd < 0 || futimens(stamp_fd, NULL) != 0)
		give_up("touch", stamp);
	close(stamp_fd);
	errno = saved_errno;
	return 0;
}

int
fsync(int fd)
{
	return make_durable(fd);
}

int
fdatasync(int fd)
{
	return make_durable(fd);
}

/* Is there no room for a file of a relation up to that offset? */
static int
is_full(int fd, off_t end)
{
	char		buffer[PATH_MAX];
	const char *name;
	struct stat status;

	return data != NULL && access(in_shadow(buffer, "", "full"), F_OK) == 0 &&
		(name = name_of(fd, buffer)) != NULL && strncmp(name, "base/", 5) == 0 &&
		fstat(fd, &status) == 0 && end > status.st_size;
}

static int
refuse(void)
{
	errno = ENOSPC;
	return -1;
}

ssize_t
pwrite(int fd, const void *bytes, size_t n, off_t offset)
{
	return is_full(fd, offset + n) ? refuse() : syscall(SYS_pwrite64, fd, bytes, n, offset);
}

ssize_t
pwritev(int fd, const struct iovec *parts, int n, off_t offset)
{
	off_t		end = offset;

	for (int i = 0; i < n; i++)
		end += parts[i].iov_len;
	/* the kernel takes the offset as two words, of which the second is unused on 64 bits */
	return is_full(fd, end) ? refuse() : syscall(SYS_pwritev, fd, parts, n, offset, 0);
}

int
posix_fallocate(int fd, off_t offset, off_t length)
{
	if (is_full(fd, offset + length))
		return ENOSPC;
	return syscall(SYS_fallocate, fd, 0, offset, length) == 0 ? 0 : errno;
}
