"""The contacts of one account, in insertion order, with a lookup by unique and by shared fields."""


class ContactStore:
    def __init__(self, unique_fields, shared_fields=()):
        self._rows = {}
        self._indexes = {field: {} for field in unique_fields}
        self._groups = {field: {} for field in shared_fields}

    def __len__(self):
        return len(self._rows)

    def __iter__(self):
        return iter(list(self._rows.values()))

    def find(self, field, value):
        """Return the contact whose unique field has this value, or None."""
        if value is None:
            return None
        return self._indexes[field].get(value)

    def find_all(self, field, value):
        """The contacts that share this value of a shared field, oldest first."""
        return sorted(self._groups[field].get(value, {}).values(), key=self._age)

    def find_any(self, fields):
        """The first contact that a unique field in `fields` leads to, or None. Without a unique field, use the shared ones."""
        found = [self.find(field, fields.get(field)) for field in self._indexes]
        if not any(fields.get(field) for field in self._indexes):
            found += [contact for field in self._groups for contact in self.find_all(field, fields.get(field))]
        return next((contact for contact in found if contact is not None), None)

    def insert(self, contact):
        self._rows[id(contact)] = contact
        for field, index in self._indexes.items():
            if contact.get(field) is not None:
                index[contact[field]] = contact
        self._regroup(contact, {}, contact)
        return contact

    def change(self, contact, changes):
        for field, index in self._indexes.items():
            if field in changes and changes[field] != contact.get(field):
                index.pop(contact.get(field), None)
                if changes[field] is not None:
                    index[changes[field]] = contact
        self._regroup(contact, contact, {**contact, **changes})
        contact.update(changes)
        return contact

    def remove(self, contact):
        del self._rows[id(contact)]
        for field, index in self._indexes.items():
            index.pop(contact.get(field), None)
        self._regroup(contact, contact, {})

    def _regroup(self, contact, before, after):
        for field, groups in self._groups.items():
            old, new = before.get(field), after.get(field)
            if old == new:
                continue
            if old is not None:
                del groups[old][id(contact)]
                if not groups[old]:
                    del groups[old]
            if new is not None:
                groups.setdefault(new, {})[id(contact)] = contact

    @staticmethod
    def _age(contact):
        return contact.get("createdAt") or contact.get("created_at"), str(contact["id"]).zfill(32)
