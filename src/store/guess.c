/*-------------------------------------------------------------------------
 *
 * guess.c
 *		Guessing from the name of a column what it holds.
 *
 * Names are compared without their case and punctuation, so that "EMail", e_mail and
 * "E-Mail" are one.  Nothing is taken for consent but a column that is called like the
 * field, because a person could be mailed for a wrong guess.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/text.h"
#include "provider/contact.h"
#include "store/guess.h"

#define MAX_SYNONYMS	28

/* Other names of a field, in the order of preference, as simplify() returns them. */
typedef struct CsSynonyms
{
	CsField		field;
	const char *names[MAX_SYNONYMS];
} CsSynonyms;

static const CsSynonyms synonyms[] = {
	{CS_EMAIL, {"emailaddress", "mail", "mailaddress", "emailaddr", "mailaddr", "emailid", "emailadresse", "mailadresse",
	"courriel", "adressemail", "correo", "correoelectronico", "correoelectrónico", "indirizzoemail", "enderecoemail"}},
	{CS_FIRST_NAME, {"first", "fname", "firstnm", "givenname", "given", "forename", "vorname", "prenom", "prénom", "nombre",
	"primernombre", "nome", "primeironome", "voornaam", "förnamn", "fornavn", "imie", "imię"}},
	{CS_LAST_NAME, {"last", "lname", "lastnm", "surname", "familyname", "family", "nachname", "familienname", "zuname",
	"nomdefamille", "apellido", "apellidos", "cognome", "sobrenome", "achternaam", "efternamn", "etternavn", "nazwisko"}},
	{CS_PHONE, {"phonenumber", "phoneno", "telephone", "telephonenumber", "tel", "mobile", "mobilephone", "mobilenumber",
			"mobileno", "cell", "cellphone", "telefon", "telefonnummer", "telefonnr", "handy", "handynummer", "mobil", "mobilnummer",
	"telefono", "teléfono", "movil", "móvil", "telefoon", "téléphone", "msisdn"}},
	{CS_LOCALE, {"localecode", "lang", "langcode", "language", "languagecode", "preferredlanguage", "preferredlocale",
	"sprache", "sprachcode", "langue", "idioma", "lingua", "taal"}},
	{CS_TIMEZONE, {"timezonename", "tz", "tzname", "zeitzone", "fuseauhoraire", "husohorario", "zonahoraria"}},
};

/* What may stand before the name of a field, as in customer_email. */
static const char *const owners[] = {
	"customer", "cust", "user", "usr", "contact", "client", "subscriber", "member", "person", "primary", "main", "kunden",
	"kunde", "cliente"
};

/* Parts of names.  Those of what is refused come first, because "unsubscribed" has "subscri" in it. */
static const char *const refusals[] = {
	"optout", "optedout", "unsubscri", "nomail", "noemail", "nonewsletter", "nomarketing", "donotmail", "donotemail",
	"donotcontact", "dontmail", "dontemail", "suppress", "bounce", "blacklist", "blocklist", "complain", "widerruf", "abgemeldet",
	"abmeld", "desabonn", "désabonn"
};
static const char *const consents[] = {
	"optin", "optedin", "subscri", "consent", "newsletter", "marketing", "gdpr", "dsgvo", "einwillig", "zustimmung", "werbung",
	"mailinglist", "wantsmail", "wantsemail", "acceptsmail", "acceptsemail", "allowmail", "allowemail", "permission", "doi", "abonn",
	"angemeldet", "suscri", "consentement", "mailok", "emailok"
};
static const char *const secrets[] = {
	"password", "passwd", "passwort", "kennwort", "pwd", "pass", "hash", "salt", "token", "secret", "apikey", "ssn", "iban",
	"creditcard", "cardnumber", "taxid", "passport"
};
static const char *const whole_names[] = {
	"name", "fullname", "displayname", "completename", "realname", "contactname", "customername", "personname", "nomcomplet",
	"nombrecompleto", "vollername", "vollständigername"
};

/* Return the name in UTF-8, in lower case, and with letters and digits only. */
static char *
simplify(const char *name)
{
	char	   *simple = cs_text_try_to_utf8(name, strlen(name));
	char	   *to = simple;

	if (simple == NULL)
		return pstrdup("");
	for (char *from = simple; *from; from++)
		if (IS_HIGHBIT_SET(*from) || isalnum((unsigned char) *from))
			*to++ = IS_HIGHBIT_SET(*from) ? *from : pg_ascii_tolower((unsigned char) *from);
	*to = '\0';
	return simple;
}

/* Does the name have one of these parts? */
static bool
has_part(const char *simple, const char *const *parts, int n)
{
	for (int i = 0; i < n; i++)
		if (strstr(simple, parts[i]))
			return true;
	return false;
}

static bool
is_among(const char *simple, const char *const *names, int n)
{
	for (int i = 0; i < n; i++)
		if (strcmp(simple, names[i]) == 0)
			return true;
	return false;
}

/* Find the field that has this name or synonym. */
static bool
find_field(const char *simple, CsGuess *guess)
{
	for (int i = 0; i < CS_ATTRIBUTES; i++)
		if (strcmp(simple, simplify(cs_contact_field_name(i))) == 0)
		{
			*guess = (CsGuess)
			{
				CS_GUESS_FIELD, i, CS_GUESS_EXACT
			};
			return true;
		}
	for (int i = 0; i < lengthof(synonyms); i++)
		for (int j = 0; j < MAX_SYNONYMS && synonyms[i].names[j]; j++)
			if (strcmp(simple, synonyms[i].names[j]) == 0)
			{
				*guess = (CsGuess)
				{
					CS_GUESS_FIELD, synonyms[i].field, 1 + j
				};
				return true;
			}
	return false;
}

/* Do the same for a name such as customer_email.  Whose consent is meant, only the user knows. */
static bool
find_field_of_owner(const char *simple, CsGuess *guess)
{
	for (int i = 0; i < lengthof(owners); i++)
	{
		size_t		len = strlen(owners[i]);

		if (strncmp(simple, owners[i], len) != 0 || !find_field(simple + len, guess))
			continue;
		guess->rank += MAX_SYNONYMS;
		if (guess->field <= CS_TIMEZONE && guess->field != CS_EXTERNAL_ID)
			return true;
	}
	return false;
}

CsGuess
cs_guess(const char *name)
{
	char	   *simple = simplify(name);
	CsGuess		guess;

	if (find_field(simple, &guess) || find_field_of_owner(simple, &guess))
		return guess;
	guess = (CsGuess)
	{
		.kind = CS_GUESS_OTHER
	};
	if (has_part(simple, secrets, lengthof(secrets)))
		guess.kind = CS_GUESS_SECRET;
	else if (has_part(simple, refusals, lengthof(refusals)))
		guess.kind = CS_GUESS_REFUSAL;
	else if (has_part(simple, consents, lengthof(consents)))
		guess.kind = CS_GUESS_CONSENT;
	else if (is_among(simple, whole_names, lengthof(whole_names)))
		guess.kind = CS_GUESS_WHOLE_NAME;
	return guess;
}

const char *
cs_guess_column(Relation source, CsField field)
{
	TupleDesc	desc = RelationGetDescr(source);
	const char *best = NULL;
	int			rank = 0;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		CsGuess		guess;

		if (attribute->attisdropped)
			continue;
		guess = cs_guess(NameStr(attribute->attname));
		if (guess.kind != CS_GUESS_FIELD || guess.field != field || (best && guess.rank >= rank))
			continue;
		best = NameStr(attribute->attname);
		rank = guess.rank;
	}
	return best;
}

const char *
cs_guess_nearest_column(Relation source, const char *name)
{
	TupleDesc	desc = RelationGetDescr(source);
	CsTextNearest nearest;

	cs_text_begin_nearest(&nearest, name);
	for (int i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped)
			cs_text_consider_nearest(&nearest, NameStr(TupleDescAttr(desc, i)->attname));
	return nearest.found;
}

const char *
cs_guess_nearest_field(const char *name)
{
	CsGuess		guess;

	if (find_field(simplify(name), &guess))
		return cs_contact_field_name(guess.field);
	return cs_contact_nearest_field(name);
}
