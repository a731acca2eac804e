import de.bwaldvogel.mongo.MongoCollection;
import de.bwaldvogel.mongo.MongoDatabase;
import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.CollectionOptions;
import de.bwaldvogel.mongo.backend.CursorRegistry;
import de.bwaldvogel.mongo.backend.Index;
import de.bwaldvogel.mongo.backend.IndexKey;
import de.bwaldvogel.mongo.backend.KeyValue;
import de.bwaldvogel.mongo.backend.QueryResult;
import de.bwaldvogel.mongo.backend.ValueComparator;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import de.bwaldvogel.mongo.backend.memory.MemoryCollection;
import de.bwaldvogel.mongo.backend.memory.MemoryDatabase;
import de.bwaldvogel.mongo.backend.memory.index.MemoryUniqueIndex;
import de.bwaldvogel.mongo.bson.BinData;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.bson.ObjectId;
import java.io.IOException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.stream.Collectors;

/**
 * A MongoDB-protocol server on loopback for tests. Run: java -cp 'DIR/*' Mongo.java; prints "READY mongodb://127.0.0.1:PORT"
 * and ends with its standard input, so that it never outlives whoever started it.
 *
 * mongo-java-server walks all documents for whatever is not exactly the key of a unique index. This one has ordered
 * indexes and goes by them where MongoDB would; whatever it finds so is still matched with the whole query.
 */
public class Mongo {
    public static void main(String[] args) throws IOException {
        // Its own versions stop at wire version 8, which pymongo refuses (it wants 9, MongoDB 4.4): claim 7.0 (wire 21).
        MongoVersion seven = new MongoVersion() {
            public List<Integer> getVersionArray() { return List.of(7, 0, 0); }
            public int getWireVersion() { return 21; }
        };
        Backend backend = new Backend();
        backend.version(seven);
        MongoServer server = new MongoServer(backend);
        server.bind("127.0.0.1", 0);
        System.out.println("READY " + server.getConnectionString());
        System.out.flush();
        while (System.in.read() >= 0) { }
        System.exit(0);
    }
}

class Backend extends MemoryBackend {
    @Override
    public MemoryDatabase openOrCreateDatabase(String name) {
        return new Database(name, getCursorRegistry());
    }
}

class Database extends MemoryDatabase {
    Database(String name, CursorRegistry cursors) {
        super(name, cursors);
    }

    @Override
    protected MemoryCollection openOrCreateCollection(String name, CollectionOptions options) {
        return new IndexedCollection(this, name, options, cursorRegistry);
    }

    @Override
    protected Index<Integer> openOrCreateUniqueIndex(String collection, String name, List<IndexKey> keys, boolean sparse) {
        return new MemoryUniqueIndex(name, keys, sparse) {
            @Override
            public boolean hasSameOptions(Index<?> other) {
                return super.hasSameOptions(other) && other.isUnique();
            }
        };
    }

    @Override
    protected Index<Integer> openOrCreateSecondaryIndex(String collection, String name, List<IndexKey> keys, boolean sparse) {
        return new OrderedIndex(name, keys, sparse);
    }
}

/** A collection that looks a query's documents up by `_id`, else by the ordered index that narrows it most. */
class IndexedCollection extends MemoryCollection {
    IndexedCollection(MongoDatabase database, String name, CollectionOptions options, CursorRegistry cursors) {
        super(database, name, options, cursors);
    }

    @Override
    protected QueryResult queryDocuments(
            Document query, Document sort, int skip, int limit, int batch, Document fields) {
        Document ids = byId(query);
        if (ids != null) {
            for (Index<Integer> index : getIndexes()) {
                if (index.canHandle(ids)) {
                    return matchDocuments(query, index.getPositions(ids), sort, skip, limit, batch, fields);
                }
            }
        }
        OrderedIndex.Range best = null;
        for (Index<Integer> index : getIndexes()) {
            OrderedIndex.Range range = index instanceof OrderedIndex ? ((OrderedIndex) index).range(query, sort) : null;
            if (range != null && (best == null || range.worth > best.worth)) {
                best = range;
            }
        }
        if (best == null) {
            return super.queryDocuments(query, sort, skip, limit, batch, fields);
        }
        return matchDocuments(query, best.positions, best.inOrder ? null : sort, skip, limit, batch, fields);
    }

    @Override
    public synchronized int count(Document query, int skip, int limit) {
        return super.count(query, skip, limit);
    }

    /** What the query says of `_id`, as far as the index of it understands that. */
    private static Document byId(Document query) {
        Object id = Condition.value(query.get("_id"));
        if (id != null) {
            return new Document("_id", id);
        }
        Object operators = query.get("_id");
        Object among = operators instanceof Document ? ((Document) operators).get("$in") : null;
        boolean plain = among instanceof Collection && ((Collection<?>) among).stream().allMatch(Condition::isPlain);
        return plain ? new Document("_id", new Document("$in", among)) : null;
    }
}

/** What a query says of one field. */
final class Condition {
    private Condition() { }

    /** The one value that the field must have; null where that is not said so. */
    static Object value(Object condition) {
        Object value = condition instanceof Document ? ((Document) condition).get("$eq") : condition;
        return isPlain(value) ? value : null;
    }

    /** The bound that one of these operators sets. */
    static Object bound(Object condition, String operator) {
        Object value = condition instanceof Document ? ((Document) condition).get(operator) : null;
        return isPlain(value) ? value : null;
    }

    /** Whether equality means the same for an index and for a query. */
    static boolean isPlain(Object value) {
        return value instanceof String || value instanceof Number || value instanceof Boolean || value instanceof ObjectId
            || value instanceof Instant || value instanceof BinData || value instanceof UUID;
    }
}

/** A compound index in the order of its keys, as MongoDB's are. */
class OrderedIndex extends Index<Integer> {
    /** The positions that a query's conditions leave, in which order, and how much that narrows it. */
    static final class Range {
        final Iterable<Integer> positions;
        final boolean inOrder;
        final int worth;

        Range(Iterable<Integer> positions, boolean inOrder, int worth) {
            this.positions = positions;
            this.inOrder = inOrder;
            this.worth = worth;
        }
    }

    /** A document's values of the keys, and its `_id`; or a bound: before or after all that begin with these values. */
    private static final class Entry {
        final List<Object> values;
        final Object id;
        final int beside;

        Entry(Iterable<Object> values, Object id, int beside) {
            this.values = new ArrayList<>();
            values.forEach(this.values::add);
            this.id = id;
            this.beside = beside;
        }
    }

    private final NavigableMap<Entry, Integer> entries = new ConcurrentSkipListMap<>(this::compare);
    private final List<String> names;
    private volatile boolean hasArrays;

    OrderedIndex(String name, List<IndexKey> keys, boolean sparse) {
        super(name, keys, sparse);
        names = keys.stream().map(IndexKey::getKey).collect(Collectors.toList());
    }

    /** What of this index a query needs; null where it is of no use. */
    Range range(Document query, Document sort) {
        List<Object> from = new ArrayList<>();
        for (String key : names) {
            Object value = Condition.value(query.get(key));
            if (value == null) {
                break;
            }
            from.add(value);
        }
        int same = from.size();
        Entry low = new Entry(from, null, -1);
        Entry high = new Entry(from, null, 1);
        boolean bounded = false;
        if (same < names.size() && getKeys().get(same).isAscending()) {
            Object condition = query.get(names.get(same));
            Entry above = bound(from, condition, "$gt", 1, "$gte", -1);
            Entry below = hasArrays ? null : bound(from, condition, "$lt", -1, "$lte", 1);
            bounded = above != null || below != null;
            low = above == null ? low : above;
            high = below == null ? high : below;
        }
        int order = order(query, sort, same);
        if (same == 0 && !bounded && (order == 0 || isSparse())) {
            return null;
        }
        if (compare(low, high) > 0) {
            return new Range(List.of(), false, Integer.MAX_VALUE);
        }
        NavigableMap<Entry, Integer> part = entries.subMap(low, true, high, true);
        Collection<Integer> positions = (order < 0 ? part.descendingMap() : part).values();
        Iterable<Integer> once = hasArrays ? Set.copyOf(positions) : positions;
        return new Range(once, order != 0, 4 * same + (bounded ? 2 : 0) + (order != 0 ? 1 : 0));
    }

    private static Entry bound(List<Object> from, Object condition, String first, int besideFirst, String second, int besideSecond) {
        Object value = Condition.bound(condition, first);
        int beside = value == null ? besideSecond : besideFirst;
        value = value == null ? Condition.bound(condition, second) : value;
        if (value == null) {
            return null;
        }
        List<Object> values = new ArrayList<>(from);
        values.add(value);
        return new Entry(values, null, beside);
    }

    /** 1 where the entries come in the order that is asked for, -1 where they do backwards, else 0. */
    private int order(Document query, Document sort, int same) {
        if (sort == null || sort.isEmpty() || hasArrays) {
            return 0;
        }
        int direction = 0;
        Iterator<IndexKey> rest = getKeys().subList(same, getKeys().size()).iterator();
        for (Map.Entry<String, Object> each : sort.entrySet()) {
            if (names.subList(0, same).contains(each.getKey())) {
                continue;
            }
            IndexKey next = rest.hasNext() ? rest.next() : null;
            if (next == null || !next.getKey().equals(each.getKey())) {
                return 0;
            }
            int way = (((Number) each.getValue()).intValue() > 0) == next.isAscending() ? 1 : -1;
            if (direction != 0 && way != direction) {
                return 0;
            }
            direction = way;
        }
        return direction == 0 ? 1 : direction;
    }

    private int compare(Entry one, Entry other) {
        int common = Math.min(one.values.size(), other.values.size());
        for (int at = 0; at < common; at++) {
            int order = compareValues(one.values.get(at), other.values.get(at));
            if (order != 0) {
                return getKeys().get(at).isAscending() ? order : -order;
            }
        }
        if (one.values.size() != other.values.size()) { // the shorter one is a bound around the other
            return one.values.size() == common ? one.beside : -other.beside;
        }
        int order = Integer.compare(one.beside, other.beside);
        return order == 0 && one.beside == 0 ? ValueComparator.asc().compare(one.id, other.id) : order;
    }

    /** The usual types need not go through the order of all types that there are. */
    private static int compareValues(Object one, Object other) {
        if (one == other) {
            return 0;
        }
        if (one instanceof String && other instanceof String) {
            return ((String) one).compareTo((String) other);
        }
        if (one instanceof Instant && other instanceof Instant) {
            return ((Instant) one).compareTo((Instant) other);
        }
        return ValueComparator.ascWithoutListHandling().compare(one, other);
    }

    /** Several where a key's value is an array; none in a sparse index of what has no value of its first key. */
    private List<Entry> entriesOf(Document document) {
        List<Object> plain = plainValues(document);
        if (plain != null) {
            boolean left = isSparse() && plain.get(0) == null;
            return left ? List.of() : List.of(new Entry(plain, document.get("_id"), 0));
        }
        List<Entry> found = new ArrayList<>();
        Set<KeyValue> values = getKeyValues(document);
        hasArrays |= values.size() != 1;
        for (KeyValue each : values) {
            if (!isSparse() || each.get(0) != null) {
                found.add(new Entry(each, document.get("_id"), 0));
            }
        }
        return found;
    }

    /** The values of the keys where all are fields of the document itself, and none is an array; else null. */
    private List<Object> plainValues(Document document) {
        List<Object> values = new ArrayList<>(names.size());
        for (String key : names) {
            Object value = document.get(key);
            if (key.indexOf('.') >= 0 || value instanceof Collection || value instanceof Document) {
                return null;
            }
            values.add(value);
        }
        return values;
    }

    @Override
    public void add(Document document, Integer position, MongoCollection<Integer> collection) {
        entriesOf(document).forEach(entry -> entries.put(entry, position));
    }

    @Override
    public Integer remove(Document document) {
        Integer position = null;
        for (Entry entry : entriesOf(document)) {
            position = entries.remove(entry);
        }
        return position;
    }

    @Override
    public void updateInPlace(Document old, Document now, Integer position, MongoCollection<Integer> collection) {
        List<Entry> before = entriesOf(old);
        List<Entry> after = entriesOf(now);
        if (before.size() != 1 || after.size() != 1 || compare(before.get(0), after.get(0)) != 0) {
            before.forEach(entries::remove);
            after.forEach(entry -> entries.put(entry, position));
        }
    }

    @Override
    public boolean hasSameOptions(Index<?> other) {
        return super.hasSameOptions(other) && !other.isUnique();
    }

    @Override
    public boolean canHandle(Document query) {
        return false; // asked for its range instead, which knows the order, too
    }

    @Override
    public Iterable<Integer> getPositions(Document query) {
        throw new UnsupportedOperationException();
    }

    @Override
    public Integer getPosition(Document document) {
        return null;
    }

    @Override
    public void checkAdd(Document document, MongoCollection<Integer> collection) { }

    @Override
    public void checkUpdate(Document old, Document now, MongoCollection<Integer> collection) { }

    @Override
    public long getCount() {
        return entries.size();
    }

    @Override
    public long getDataSize() {
        return 0;
    }

    @Override
    public void drop() { }
}
