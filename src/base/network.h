/*-------------------------------------------------------------------------
 *
 * network.h
 *		Which addresses may be connected to.
 *
 * Nothing here pallocs or reports errors, so libcurl's callbacks may call it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BASE_NETWORK_H
#define CS_BASE_NETWORK_H

#include "postgres.h"

#include <netinet/in.h>
#include <sys/socket.h>

/* An IPv6 address; an IPv4 address is mapped into it (::ffff:a.b.c.d). */
typedef struct CsAddress
{
	uint8		bytes[16];
} CsAddress;

typedef struct CsNetwork
{
	CsAddress	address;
	int			bits;			/* of 128 */
} CsNetwork;

typedef struct CsNetworks
{
	uint32		version;		/* a hash of the list */
	int			n;
	CsNetwork	network[FLEXIBLE_ARRAY_MEMBER];
} CsNetworks;

/* Why a server may not connect to addresses; what follows are networks that contain
 * them, separated by commas. */
#define CS_NETWORK_REFUSAL	"not public, and not in contactsync.allowed_networks: "

/* contactsync.allowed_networks; never NULL once the settings are defined. */
extern const CsNetworks *cs_allowed_networks;

/* Return the number of networks that a list can have at most. */
extern int	cs_network_count(const char *list);

/*
 * Parse a list such as "10.0.0.0/8, ::1" into "networks", which has room for
 * cs_network_count().  Return NULL, or what is wrong with *item, which is of the
 * length *len.
 */
extern const char *cs_network_parse_list(const char *list, CsNetworks *networks, const char **item, int *len);

/* Return false if it is of another family than IPv4 and IPv6. */
extern bool cs_network_take_address(const struct sockaddr *from, CsAddress *address);

/* Read the text of an address; return false if it is none, such as a name. */
extern bool cs_network_read_address(const char *text, CsAddress *address);

/* May a server that a non-superuser owns connect to the address? */
extern bool cs_network_is_allowed(const CsAddress *address);

/* Room for the text of a network, with the zero byte. */
#define CS_NETWORK_TEXT	(INET6_ADDRSTRLEN + 4)

/* Return the network that contains only the address, such as "10.0.0.1/32". */
extern const char *cs_network_print_address(const CsAddress *address, char text[CS_NETWORK_TEXT]);

#endif							/* CS_BASE_NETWORK_H */
