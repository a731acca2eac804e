import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import java.io.IOException;
import java.util.List;

/**
 * A MongoDB-protocol server on loopback for tests. Run: java -cp 'DIR/*' Mongo.java; prints "READY mongodb://127.0.0.1:PORT"
 * and ends with its standard input, so that it never outlives whoever started it.
 */
public class Mongo {
    public static void main(String[] args) throws IOException {
        // Its own versions stop at wire version 8, which pymongo refuses (it wants 9, MongoDB 4.4): claim 7.0 (wire 21).
        MongoVersion seven = new MongoVersion() {
            public List<Integer> getVersionArray() { return List.of(7, 0, 0); }
            public int getWireVersion() { return 21; }
        };
        MemoryBackend backend = new MemoryBackend();
        backend.version(seven);
        MongoServer server = new MongoServer(backend);
        server.bind("127.0.0.1", 0);
        System.out.println("READY " + server.getConnectionString());
        System.out.flush();
        while (System.in.read() >= 0) { }
        System.exit(0);
    }
}
