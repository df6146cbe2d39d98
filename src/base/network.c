/*-------------------------------------------------------------------------
 *
 * network.c
 *		Which addresses may be connected to.
 *
 * Whoever may create a server could otherwise have this machine call whatever
 * it can reach and the role cannot: services on the loopback interface and in
 * private networks, and the metadata service of a cloud.  So a server that a
 * non-superuser owns may connect to public addresses, and to those in
 * contactsync.allowed_networks.
 *
 * The decision is about the address of a connection, not about a name: a name
 * can have another address the next time it is asked for.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>

#include "base/network.h"

#define V4_PREFIX	96			/* bits before a mapped IPv4 address */

static const CsNetworks no_networks = {0};

const CsNetworks *cs_allowed_networks = &no_networks;

/*
 * What is not public, of IPv4: what IANA's registry of special-purpose addresses
 * does not call globally reachable.  The last one is public, but always the
 * metadata service of a cloud.
 */
static const struct
{
	uint32		address;
	int			bits;
}			special_v4[] = {
	{0x00000000, 8},			/* 0.0.0.0/8: this network, unspecified */
	{0x0A000000, 8},			/* 10.0.0.0/8: private */
	{0x64400000, 10},			/* 100.64.0.0/10: shared by carriers (CGNAT) */
	{0x7F000000, 8},			/* 127.0.0.0/8: loopback */
	{0xA9FE0000, 16},			/* 169.254.0.0/16: link-local */
	{0xAC100000, 12},			/* 172.16.0.0/12: private */
	{0xC0000000, 24},			/* 192.0.0.0/24: protocol assignments */
	{0xC0000200, 24},			/* 192.0.2.0/24: documentation */
	{0xC0586300, 24},			/* 192.88.99.0/24: relays of 6to4 */
	{0xC0A80000, 16},			/* 192.168.0.0/16: private */
	{0xC6120000, 15},			/* 198.18.0.0/15: benchmarks */
	{0xC6336400, 24},			/* 198.51.100.0/24: documentation */
	{0xCB007100, 24},			/* 203.0.113.0/24: documentation */
	{0xE0000000, 4},			/* 224.0.0.0/4: multicast */
	{0xF0000000, 4},			/* 240.0.0.0/4: reserved, broadcast */
	{0xA83F8110, 32}			/* 168.63.129.16 */
};

/* Of IPv6, only 2000::/3 is public at all, and this in it is not. */
static const CsNetwork special_v6[] = {
	{{{0x20, 0x01}}, 23},		/* 2001::/23: protocol assignments, Teredo */
	{{{0x20, 0x01, 0x0d, 0xb8}}, 32},	/* 2001:db8::/32: documentation */
	{{{0x20, 0x02}}, 16},		/* 2002::/16: 6to4, any IPv4 address */
	{{{0x3f, 0xff}}, 20}		/* 3fff::/20: documentation */
};

static const CsNetwork global_v6 = {{{0x20}}, 3};
static const CsNetwork mapped_v4 = {{{[10] = 0xff,[11] = 0xff}}, V4_PREFIX};
static const CsNetwork nat64 = {{{0x00, 0x64, 0xff, 0x9b}}, V4_PREFIX};

static bool
contains(const CsNetwork *network, const CsAddress *address)
{
	int			whole = network->bits / 8;
	int			rest = network->bits % 8;

	return memcmp(network->address.bytes, address->bytes, whole) == 0 &&
		(rest == 0 || ((network->address.bytes[whole] ^ address->bytes[whole]) >> (8 - rest)) == 0);
}

static bool
is_public_v4(const uint8 *bytes)
{
	uint32		address = (uint32) bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3];

	for (int i = 0; i < lengthof(special_v4); i++)
		if (((address ^ special_v4[i].address) >> (32 - special_v4[i].bits)) == 0)
			return false;
	return true;
}

/* An address that stands for one of IPv4 is as public as that. */
static bool
is_public(const CsAddress *address)
{
	if (contains(&mapped_v4, address) || contains(&nat64, address))
		return is_public_v4(address->bytes + V4_PREFIX / 8);
	if (!contains(&global_v6, address))
		return false;
	for (int i = 0; i < lengthof(special_v6); i++)
		if (contains(&special_v6[i], address))
			return false;
	return true;
}

/* A network of IPv6 contains no address of IPv4, not even ::/0. */
static bool
contains_of_family(const CsNetwork *network, const CsAddress *address)
{
	return contains(network, address) && (network->bits >= V4_PREFIX || !contains(&mapped_v4, address));
}

bool
cs_network_is_allowed(const CsAddress *address)
{
	for (int i = 0; i < cs_allowed_networks->n; i++)
		if (contains_of_family(&cs_allowed_networks->network[i], address))
			return true;
	return is_public(address);
}

/* ---------- addresses ---------- */

static void
map_v4(const void *from, CsAddress *address)
{
	*address = mapped_v4.address;
	memcpy(address->bytes + V4_PREFIX / 8, from, 4);
}

bool
cs_network_take_address(const struct sockaddr *from, CsAddress *address)
{
	if (from->sa_family == AF_INET)
		map_v4(&((const struct sockaddr_in *) from)->sin_addr, address);
	else if (from->sa_family == AF_INET6)
		memcpy(address->bytes, &((const struct sockaddr_in6 *) from)->sin6_addr, sizeof(address->bytes));
	else
		return false;
	return true;
}

bool
cs_network_read_address(const char *text, CsAddress *address)
{
	struct in_addr v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
	{
		map_v4(&v4, address);
		return true;
	}
	return inet_pton(AF_INET6, text, address->bytes) == 1;
}

const char *
cs_network_print_address(const CsAddress *address, char text[CS_NETWORK_TEXT])
{
	bool		is_v4 = contains(&mapped_v4, address);

	text[0] = '\0';
	if (is_v4)
		(void) inet_ntop(AF_INET, address->bytes + V4_PREFIX / 8, text, INET6_ADDRSTRLEN);
	else
		(void) inet_ntop(AF_INET6, address->bytes, text, INET6_ADDRSTRLEN);
	strcat(text, is_v4 ? "/32" : "/128");
	return text;
}

/* ---------- lists ---------- */

/* What separates the networks of a list. */
#define SEPARATORS	", \t\n"

int
cs_network_count(const char *list)
{
	return (int) strlen(list) / 2 + 1;
}

/* Are all bits after the prefix 0? */
static bool
is_prefix(const CsNetwork *network)
{
	for (int i = network->bits; i < 128; i++)
		if (network->address.bytes[i / 8] & (0x80 >> i % 8))
			return false;
	return true;
}

/* Parse "address" or "address/bits"; return NULL, or what it must be. */
static const char *
parse_network(const char *item, int len, CsNetwork *network)
{
	char		text[CS_NETWORK_TEXT];
	char	   *slash;
	char	   *end;
	int			room;
	long		bits;

	if (len >= sizeof(text))
		return "is not a network such as \"10.0.0.0/8\" or \"fd00::/8\"";
	memcpy(text, item, len);
	text[len] = '\0';
	slash = strchr(text, '/');
	if (slash)
		*slash = '\0';
	if (!cs_network_read_address(text, &network->address))
		return "is not a network such as \"10.0.0.0/8\" or \"fd00::/8\"";
	room = strchr(text, ':') ? 128 : 32;
	bits = slash ? strtol(slash + 1, &end, 10) : room;
	if (slash && (slash[1] < '0' || slash[1] > '9' || *end != '\0' || bits > room))
		return "has a prefix of an invalid length";
	network->bits = (int) bits + 128 - room;
	return is_prefix(network) ? NULL : "has bits set after its prefix";
}

const char *
cs_network_parse_list(const char *list, CsNetworks *networks, const char **item, int *len)
{
	networks->n = 0;
	for (const char *p = list + strspn(list, SEPARATORS); *p; p += *len + strspn(p + *len, SEPARATORS))
	{
		const char *problem;

		*item = p;
		*len = (int) strcspn(p, SEPARATORS);
		problem = parse_network(p, *len, &networks->network[networks->n]);
		if (problem)
			return problem;
		networks->n++;
	}
	return NULL;
}
